"""Markdown tables, JSON files and figures, as every benchmark program writes them."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def print_header(*columns: str) -> None:
    """Prints the head of a Markdown table."""
    print_cells(*columns)
    print("|---" * len(columns) + "|", flush=True)


def print_cells(*cells: str) -> None:
    """Prints one row of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def write_json(path: Path, facts: dict[str, Any], rows: Sequence[Any]) -> None:
    """Writes the facts and the rows, which are dataclasses, to `path`; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = facts | {"rows": [dataclasses.asdict(row) for row in rows]}
    path.write_text(json.dumps(record, indent=1) + "\n")


@contextlib.contextmanager
def figure(path: Path, *grid: int, **options: Any) -> Iterator[Any]:
    """Gives the axes of `plt.subplots(*grid, **options)`, then saves the figure to `path`."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(*grid, layout="constrained", **options)
    yield axes
    drawn.savefig(path, dpi=120)
    plt.close(drawn)
