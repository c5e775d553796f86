"""Confusion matrices over a whole split, and the three metrics computed from them."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from dwconv_jax.tasks.segmentation.losses import IGNORED


def confusion_matrix(labels: jax.Array, predictions: jax.Array, num_classes: int) -> jax.Array:
    """Counts pixels by class and prediction, except ignored ones.

    Args:
      labels: integers of any shape, classes or `IGNORED`.
      predictions: classes, of the same shape.
      num_classes: the number of classes.

    Returns:
      int32 `[num_classes, num_classes]`, rows by label and columns by prediction.
    """
    cells = jnp.where(labels == IGNORED, num_classes**2, labels * num_classes + predictions)
    counts = jnp.zeros(num_classes**2, jnp.int32).at[cells.reshape(-1)].add(1, mode="drop")
    return counts.reshape(num_classes, num_classes)


@flax.struct.dataclass
class _FromConfusion(clu_metrics.Metric):
    """A metric of the confusion matrix of all pixels; exact, with 64-bit sums on the host."""

    confusion: Any

    @classmethod
    def from_model_output(cls, confusion: jax.Array, **_: Any) -> "_FromConfusion":
        """Returns the metric of one batch."""
        return cls(confusion=confusion)

    def merge(self, other: "_FromConfusion") -> "_FromConfusion":
        """Returns the metric of both."""
        return self.replace(confusion=_to_host(self.confusion) + _to_host(other.confusion))


def areas_of(confusion: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the correct, labeled and predicted pixels of each class."""
    counts = _to_host(confusion)
    return counts.diagonal(), counts.sum(1), counts.sum(0)


@flax.struct.dataclass
class MeanIoU(_FromConfusion):
    """Intersection over union, averaged over classes that occur as label or prediction."""

    def compute(self) -> float:
        """In 0..1."""
        correct, labeled, predicted = areas_of(self.confusion)
        return _mean_ratio(correct, labeled + predicted - correct)


@flax.struct.dataclass
class MeanAccuracy(_FromConfusion):
    """Share of correct pixels of a class, averaged over classes that occur as label."""

    def compute(self) -> float:
        """In 0..1."""
        correct, labeled, _ = areas_of(self.confusion)
        return _mean_ratio(correct, labeled)


@flax.struct.dataclass
class PixelAccuracy(_FromConfusion):
    """Share of correct pixels."""

    def compute(self) -> float:
        """In 0..1."""
        correct, labeled, _ = areas_of(self.confusion)
        return _mean_ratio(correct.sum(keepdims=True), labeled.sum(keepdims=True))


def _to_host(counts: Any) -> np.ndarray:
    return np.asarray(counts).astype(np.int64)


def _mean_ratio(parts: np.ndarray, wholes: np.ndarray) -> float:
    """Returns the mean of the ratios with a nonzero denominator, NaN without any."""
    occurs = wholes > 0
    return float(np.mean(parts[occurs] / wholes[occurs])) if occurs.any() else float("nan")
