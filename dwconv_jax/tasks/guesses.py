"""The most probable classes of what a model saw, as captions and a table."""

from collections.abc import Sequence

import numpy as np
from etils import epath

from dwconv_jax.tasks.pictures import write_csv

_MOST_GUESSES = 5


class GuessTable:
    """`predictions.csv`: a line for each input with its most probable classes, best first."""

    def __init__(self, kind: str, class_names: Sequence[str]):
        self._class_names = class_names
        ranks = range(1, min(_MOST_GUESSES, len(class_names)) + 1)
        columns = (name for k in ranks for name in (f"class_{k}", f"probability_{k}"))
        self._rows: list[Sequence[str]] = [(kind, *columns)]

    def add(self, name: str, logits: np.ndarray) -> str:
        """Adds the line of an input, given logits `[classes]`; returns its `caption`."""
        row, probabilities, order = [name], _softmax(logits), np.argsort(-logits)
        for k in order[:_MOST_GUESSES]:
            row += self._class_names[k], f"{probabilities[k]:.4f}"
        self._rows.append(row)
        return _caption(self._class_names[order[0]], probabilities[order[0]])

    def write(self, folder: epath.Path) -> None:
        """Writes the table into a folder."""
        write_csv(folder / "predictions.csv", self._rows)


def caption(class_names: Sequence[str], logits: np.ndarray) -> str:
    """The most probable class with its probability, such as "chair 83%"."""
    best = int(logits.argmax())
    return _caption(class_names[best], _softmax(logits)[best])


def _caption(name: str, probability: float) -> str:
    return f"{name} {probability:.0%}"


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
