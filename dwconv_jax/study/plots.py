"""Plots of the rows of a study."""

from collections.abc import Callable, Sequence
from itertools import cycle

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from dwconv_jax.study.table import Row

_MARKERS, _COLORS = "osD^v", [f"C{i}" for i in range(10)]


def accuracy_against(rows: Sequence[Row], value: Callable[[Row], float], label: str) -> Figure:
    """Plots mean accuracies, with spreads as bars, against a number of each row."""
    figure = Figure(figsize=(8.5, max(4.2, 0.29 * len(rows))), layout="constrained")
    axes = figure.subplots()
    # Colors repeat after ten, markers after five: the first fifty rows all differ.
    for i, (row, color) in enumerate(zip(rows, cycle(_COLORS), strict=False)):
        axes.errorbar(
            value(row), row.accuracy, yerr=row.spread, color=color, capsize=3, linestyle="none",
            marker=_MARKERS[(i + i // 10) % len(_MARKERS)], label=row.cell,
        )  # fmt: skip
    values = [value(row) for row in rows]
    if max(values) > 2 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def comparison(rows: Sequence[Row]) -> Figure:
    """Plots the accuracies of a few cells: a dot for each seed, the mean and the spread."""
    figure = Figure(figsize=(7.5, 0.9 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for i, row in enumerate(rows):
        axes.plot(row.accuracies, [i] * len(row.accuracies), "o", color="C0", alpha=0.35, ms=4)
        axes.errorbar(row.accuracy, i, xerr=row.spread, fmt="o", color="C0", capsize=4)
    axes.set_yticks(range(len(rows)), [row.cell for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("accuracy, %")
    axes.grid(alpha=0.3)
    return figure
