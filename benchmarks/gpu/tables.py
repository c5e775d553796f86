"""Rows as Markdown tables: one for each stage, one line for each case."""

from collections.abc import Sequence
from typing import Any

from benchmarks.output import print_cells, print_header

_FIRST = ("error", "cut", "skipped")  # of the notes: why a line is not complete
_LONGEST_NOTE = 120  # characters; results.jsonl has all of it


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
    columns = [name for name in names if _is_column(name, lines)]
    print_header("case", *columns, "note")
    for case, line in lines.items():
        print_cells(case, *(_cell(line.get(column)) for column in columns), _note(line))


def _is_column(name: str, lines: dict[str, dict[str, Any]]) -> bool:
    """Numbers have columns; words are notes."""
    return name != "at" and any(isinstance(line.get(name), int | float) for line in lines.values())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _note(line: dict[str, Any]) -> str:
    words = [k for k, v in line.items() if isinstance(v, str) and k not in ("stage", "case")]
    notes = (f"{name}: {line[name]}" for name in sorted(words, key=lambda k: k not in _FIRST))
    text = " ".join("; ".join(notes).split()).replace("|", "/")
    return text if len(text) <= _LONGEST_NOTE else text[: _LONGEST_NOTE - 3] + "..."
