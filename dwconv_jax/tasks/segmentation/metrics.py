"""Confusion matrices over a whole set, and the three numbers that segmentation reports."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

# The label of pixels that belong to no class.
IGNORED = 255


def confusion_matrix(labels: jax.Array, predictions: jax.Array, num_classes: int) -> jax.Array:
    """Counts pixels by class and prediction; ignored ones do not count.

    Args:
      labels: integers of any shape, classes or `IGNORED`.
      predictions: classes, of the same shape.
      num_classes: how many classes there are.

    Returns:
      int32 `[num_classes, num_classes]`, rows by label and columns by prediction.
    """
    cells = jnp.where(labels == IGNORED, num_classes**2, labels * num_classes + predictions)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[cells.reshape(-1)].add(1, mode="drop")
    return counts.reshape(num_classes, num_classes)


@flax.struct.dataclass
class _FromConfusion(clu_metrics.Metric):
    """A metric of the confusion matrix of all pixels; exact: the sums are 64-bit, on the host."""

    confusion: Any

    @classmethod
    def from_model_output(cls, confusion: jax.Array, **_: Any) -> "_FromConfusion":
        """The metric of one batch."""
        return cls(confusion=confusion)

    def merge(self, other: "_FromConfusion") -> "_FromConfusion":
        """The metric of both."""
        return self.replace(confusion=_to_host(self.confusion) + _to_host(other.confusion))

    def _areas(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each class: pixels that are right, that are labelled so, that are predicted so."""
        confusion = _to_host(self.confusion)
        return confusion.diagonal(), confusion.sum(1), confusion.sum(0)


@flax.struct.dataclass
class MeanIoU(_FromConfusion):
    """Intersection over union, averaged over the classes that occur (label or prediction)."""

    def compute(self) -> float:
        """In 0..1."""
        right, labelled, predicted = self._areas()
        return _mean_ratio(right, labelled + predicted - right)


@flax.struct.dataclass
class MeanAccuracy(_FromConfusion):
    """Share of a class's pixels that are right, averaged over the classes that are labelled."""

    def compute(self) -> float:
        """In 0..1."""
        right, labelled, _ = self._areas()
        return _mean_ratio(right, labelled)


@flax.struct.dataclass
class PixelAccuracy(_FromConfusion):
    """Share of all pixels that are right."""

    def compute(self) -> float:
        """In 0..1."""
        right, labelled, _ = self._areas()
        return _mean_ratio(right.sum(keepdims=True), labelled.sum(keepdims=True))


def _to_host(counts: Any) -> np.ndarray:
    return np.asarray(counts).astype(np.int64)


def _mean_ratio(parts: np.ndarray, wholes: np.ndarray) -> float:
    """Mean of the ratios whose denominator is not zero; not a number where there is none."""
    occurs = wholes > 0
    return float(np.mean(parts[occurs] / wholes[occurs])) if occurs.any() else float("nan")
