"""What an evaluation says: numbers to log, the scores of each class, and what is confused."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Scores = dict[str, Any]
_COUNTS = ("support", "pixels", "objects")  # other scores are shares


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of an evaluation; every entry is plain JSON.

    Attributes:
      metrics: over the whole split, by name.
      classes: of each class its 'name' and its scores, which are None where they are not defined.
      confusion_matrix: counts by class (row) and prediction (column), if the task has one.
    """

    metrics: dict[str, float]
    classes: list[Scores] = dataclasses.field(default_factory=list)
    confusion_matrix: list[list[int]] | None = None


def class_scores(
    names: Sequence[str], correct: np.ndarray, labeled: np.ndarray, predicted: np.ndarray
) -> list[Scores]:
    """Precision, recall, F1 and support of each class.

    Args:
      names: of the classes.
      correct: int `[K]`, examples of a class that are predicted as such.
      labeled: int `[K]`, examples of a class.
      predicted: int `[K]`, examples predicted as a class.
    """
    columns = {
        "precision": ratios(correct, predicted),
        "recall": ratios(correct, labeled),
        "f1": ratios(2 * correct, labeled + predicted),
        "support": labeled.tolist(),
    }
    return [
        {"name": name, **{key: column[k] for key, column in columns.items()}}
        for k, name in enumerate(names)
    ]


def class_table(classes: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The scores of classes as rows of text, the header first: shares in percent, counts as such.

    Args:
      classes: of each class its 'name' and its scores, at least one class.
    """
    scores = [score for score in classes[0] if score != "name"]
    units = (s if s in _COUNTS else f"{s.replace('_', ' ')} %" for s in scores)
    rows = [(c["name"], *(_cell(score, c[score]) for score in scores)) for c in classes]
    return [("class", *units), *rows]


def _cell(score: str, value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if score in _COUNTS else f"{100 * value:.1f}"


def ratios(parts: np.ndarray, wholes: np.ndarray) -> list[float | None]:
    """The ratios of two arrays `[K]`, None where the denominator is 0."""
    return [
        float(part / whole) if whole else None for part, whole in zip(parts, wholes, strict=True)
    ]


def mean_score(classes: Sequence[Scores], score: str) -> float:
    """The mean of a score over the classes for which it is defined, NaN without any."""
    defined = [entry[score] for entry in classes if entry[score] is not None]
    return float(np.mean(defined)) if defined else float("nan")
