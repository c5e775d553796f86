"""Figures of a run: curves over its steps, and the classes that it confuses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

# With more classes, numbers do not fit into their cells.
_MOST_ANNOTATED = 20
_FIVE_DIGITS = 10_000


def training_curves(entries: Sequence[Mapping[str, Any]]) -> Figure:
    """Plots the scalars of a run over its steps, one panel each.

    Args:
      entries: lines of `metrics.jsonl`, each with a step, a split and scalars.

    Raises:
      ValueError: if there are no entries.
    """
    if not entries:
        raise ValueError("entries must hold at least one line of metrics.jsonl")
    names = [n for n in dict.fromkeys(n for e in entries for n in e) if n not in ("step", "split")]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel, name in zip(axes.flat, names, strict=False):
        for split, color in (("train", "tab:blue"), ("eval", "tab:orange")):
            points = [(e["step"], e[name]) for e in entries if e["split"] == split and name in e]
            if points:
                marker = "o" if len(points) < 20 else None
                panel.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=3)
                panel.plot([], [], color=color, label=split)
        panel.set_title(name.replace("_", " "), size=10)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    for panel in axes.flat[len(names) :]:
        panel.set_axis_off()
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < len(names))
        axes[last, column].set_xlabel("step")
    return figure


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws a confusion matrix: rows are the true classes, columns the predictions.

    Colors are shares of a row, numbers are counts (up to 20 classes), or percentages of a row where
    counts have more than four digits.

    Args:
      counts: `[classes, classes]`.
      class_names: of the rows and columns.

    Raises:
      ValueError: if `counts` does not have one row and column per name.
    """
    size = len(class_names)
    if counts.shape != (size, size):
        raise ValueError(f"counts must be [{size}, {size}] for the classes, got {counts.shape}")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    annotated = size <= _MOST_ANNOTATED
    side = 2.2 + (0.42 * size if annotated else 6)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if annotated:
        names = [name if len(name) <= 16 else name[:15] + "…" for name in class_names]
        upright = max(map(len, names)) <= 3
        axes.set_xticks(range(size), names, rotation=0 if upright else 90)
        axes.set_yticks(range(size), names)
        in_percent = counts.max(initial=0) >= _FIVE_DIGITS
        for (truth, guess), count in np.ndenumerate(counts):
            if count:
                share = shares[truth, guess]
                color = "white" if share > 0.5 else "black"
                text = f"{share:.0%}" if in_percent else f"{int(count)}"
                axes.text(guess, truth, text, ha="center", va="center", color=color, size=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the row")
    return figure
