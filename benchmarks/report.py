"""Comparisons with a peer, as a table, as JSON and as a figure."""

import dataclasses
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from benchmarks.output import figure, print_cells, print_header, write_json
from benchmarks.timing import Comparison


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: what was run, by which of our lowerings, against which peer."""

    case: str
    what: str
    lowering: str
    peer: str
    compile_seconds: float
    times: Comparison


def machine(threads: int, torch_version: str | None) -> dict[str, Any]:
    """The facts that a reader needs to judge the numbers."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "torch": torch_version or "not found",
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "not set"),
    }


def print_heading(title: str, facts: dict[str, Any]) -> None:
    """Prints the versions and the head of the table; rows follow as they are measured."""
    print(f"## {title}\n\n" + ", ".join(f"{k} {v}" for k, v in facts.items()))
    print("ratio = the peer's time / ours: above 1 we are faster\n")
    print_header(
        "case", "what", "ours", "peer", "ours ms", "peer ms", "ratio", "quartiles", "compile s"
    )


def print_row(row: Row) -> None:
    """Prints one line of the table."""
    times = row.times
    noise = f" NOISY ({times.discarded} disturbed)" if times.is_noisy else ""
    print_cells(
        row.case,
        row.what,
        row.lowering,
        row.peer,
        f"{times.ours_ms:.2f}",
        f"{times.peer_ms:.2f}",
        f"{times.ratio:.2f}",
        f"{times.ratio_low:.2f} to {times.ratio_high:.2f}{noise}",
        f"{row.compile_seconds:.1f}",
    )


def write(path: Path, facts: dict[str, Any], rows: Sequence[Row]) -> None:
    """Writes `path`.json with everything and `path`.png with the ratios."""
    write_json(path.with_suffix(".json"), {"machine": facts}, rows)
    if rows:
        _draw_ratios(path.with_suffix(".png"), rows)


def _draw_ratios(path: Path, rows: Sequence[Row]) -> None:
    from matplotlib import ticker

    ratios = np.array([row.times.ratio for row in rows])
    ends = np.array([(row.times.ratio_low, row.times.ratio_high) for row in rows])
    colors = ["tab:blue" if ratio >= 1 else "tab:orange" for ratio in ratios]
    labels = [f"{row.case}, {row.what}, {row.lowering} / {row.peer}" for row in rows]
    with figure(path, figsize=(9, 1 + 0.22 * len(rows))) as axes:
        errors = np.abs(ends.T - ratios)
        axes.barh(range(len(rows)), ratios - 1, left=1, xerr=errors, color=colors)
        axes.set_yticks(range(len(rows)), labels, fontsize=7)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.margins(x=0.05)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("the peer's time / ours; blue: ours is faster")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
