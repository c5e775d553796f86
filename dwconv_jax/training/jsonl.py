"""Reads `metrics.jsonl`, the numbers of a run."""

import json
from typing import Any

from etils import epath

from dwconv_jax.training.logs import log

JSONL = "metrics.jsonl"


def read_jsonl(workdir: epath.Path) -> list[dict[str, Any]]:
    """Reads the entries of a run's `metrics.jsonl`.

    A last line that a kill cut short is left out; other lines that are not entries are left out
    with a warning that names them.
    """
    path = workdir / JSONL
    if not path.exists():
        return []
    *lines, unfinished = path.read_bytes().split(b"\n")
    entries = [_entry(line) for line in lines]
    broken = [i for i, entry in enumerate(entries, start=1) if entry is None]
    if broken:
        log.warning(
            f"skipping {len(broken)} damaged line(s) of {path}, the first one is line {broken[0]}"
        )
    return [entry for entry in [*entries, _entry(unfinished)] if entry is not None]


def _entry(line: bytes) -> dict[str, Any] | None:
    """Parses a line; None if it is not an entry of `MetricLog.write`."""
    try:
        entry = json.loads(line)
    except ValueError:  # not UTF-8, or not JSON
        return None
    valid = (
        isinstance(entry, dict)
        and isinstance(entry.get("step"), int)
        and isinstance(entry.get("split"), str)
    )
    return entry if valid else None
