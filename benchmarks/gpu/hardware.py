"""Measures everything on one NVIDIA GPU, in ten minutes: `python -m benchmarks.gpu.hardware`.

Every row is in `results.jsonl` as soon as it is measured; tables are printed last. `--dry-run` runs
toy sizes on any machine.
"""

import argparse
import functools
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import SHARES
from benchmarks.gpu.stages.case import Settings
from benchmarks.gpu.supervise import supervise
from benchmarks.gpu.tables import print_tables

_LEAST_SECONDS = 3.0  # of a stage


def main(options: argparse.Namespace) -> None:
    """Runs the stages; exits with status 1 if a row tells of an error."""
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with (options.out / "results.jsonl").open("a") as file:
        try:
            _run_stages(options, rows, file)
        finally:
            print_tables(rows)
    if any("error" in row for row in rows):
        sys.exit(1)


def _run_stages(options: argparse.Namespace, rows: list[dict[str, Any]], file: Any) -> None:
    began = time.monotonic()
    settings = Settings(options.dry_run, options.torch_python)

    def write(row: dict[str, Any], stage: str) -> None:
        rows.append({"stage": stage, "at": round(time.monotonic() - began, 1)} | row)
        print(json.dumps(rows[-1]), file=file, flush=True)
        print(stage, row, file=sys.stderr)

    for i, stage in enumerate(options.stages):
        left = options.budget - (time.monotonic() - began)
        # What earlier stages left over is shared among the others.
        limit = left * SHARES[stage] / sum(SHARES[s] for s in options.stages[i:])
        write_row = functools.partial(write, stage=stage)
        if limit < _LEAST_SECONDS:
            write_row({"case": "all", "cut": "the budget was spent"})
            continue
        supervise(functools.partial(_command, stage, settings), limit, write_row)


def _command(stage: str, settings: Settings, first: int) -> list[str]:
    """Runs a stage from its case `first` on."""
    words = [sys.executable, "-m", "benchmarks.gpu.worker", stage, "--first", str(first)]
    words += ["--torch-python", settings.torch_python]
    return words + ["--dry-run"] * settings.dry_run


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="toy sizes, on any machine")
    parser.add_argument("--stages", nargs="+", choices=SHARES, default=list(SHARES), metavar="NAME")
    parser.add_argument("--budget", type=float, default=570.0, help="seconds for all stages")
    output = Path("runs/benchmarks/gpu_hardware")
    parser.add_argument("--out", type=Path, default=output, help="folder for results.jsonl")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with PyTorch")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    # `timeout` and schedulers send it: the tables are printed, and no process stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    main(parse_options())
