"""Rows as Markdown tables: one for each stage, one line for each case."""

from collections.abc import Sequence
from typing import Any

from benchmarks.output import print_cells, print_header

_NOTES = ("error", "cut", "skipped")  # why a line is not complete
_LONGEST_NOTE = 90  # characters; results.jsonl has all of it


def print_tables(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a table for each stage; rows of the same case share a line."""
    for stage in dict.fromkeys(row["stage"] for row in rows):
        print(f"\n## {stage}\n")
        _print_table([row for row in rows if row["stage"] == stage])


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        lines.setdefault(row["case"], {}).update(row)
    names = dict.fromkeys(name for line in lines.values() for name in line)
    columns = [n for n in names if n not in ("stage", "at", "case", *_NOTES)]
    print_header("case", *columns, "note")
    for case, line in lines.items():
        print_cells(case, *(_cell(line.get(column)) for column in columns), _note(line))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _note(line: dict[str, Any]) -> str:
    notes = (f"{name}: {line[name]}" for name in _NOTES if name in line)
    text = " ".join("; ".join(notes).split()).replace("|", "/")
    return text if len(text) <= _LONGEST_NOTE else text[: _LONGEST_NOTE - 3] + "..."
