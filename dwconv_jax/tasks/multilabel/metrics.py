"""Metrics of multi-label classifiers, from the scores of a whole split."""

from typing import Any, NamedTuple

import flax
import numpy as np
from clu import metrics as clu_metrics
from jax.experimental import multihost_utils
from sklearn.metrics import average_precision_score, precision_recall_curve


class Outputs(NamedTuple):
    """What a model says of examples.

    Attributes:
      loss: `[N]`.
      probability: `[N, K]`.
      label: `[N, K]`, 1 for the labels of an example.
      mask: `[N]`, 0 for padding.
    """

    loss: Any
    probability: Any
    label: Any
    mask: Any


@flax.struct.dataclass
class MultilabelMetrics(clu_metrics.Metric):
    """Keeps the outputs of all examples on the host; average precision needs them together.

    Attributes:
      outputs: of a batch, on devices; None after merging.
      merged: of merged batches, without padding.
    """

    outputs: Outputs | None
    merged: tuple[Outputs, ...] = flax.struct.field(pytree_node=False, default=())

    @classmethod
    def from_model_output(cls, outputs: Outputs) -> "MultilabelMetrics":
        """Returns the metric of one batch."""
        return cls(outputs=outputs)

    def merge(self, other: "MultilabelMetrics") -> "MultilabelMetrics":
        """Returns the metric of both."""
        return self.replace(outputs=None, merged=self._on_host() + other._on_host())

    def examples(self) -> Outputs:
        """The outputs of all examples, the same on every process."""
        return Outputs(*(np.concatenate(arrays) for arrays in zip(*self._on_host(), strict=True)))

    def _on_host(self) -> tuple[Outputs, ...]:
        if self.outputs is None:
            return self.merged
        whole = [multihost_utils.process_allgather(array, tiled=True) for array in self.outputs]
        counted = whole[-1] > 0
        return (*self.merged, Outputs(*(np.asarray(array)[counted] for array in whole)))


class BestThreshold(NamedTuple):
    """The threshold with the largest F1, which it gives.

    It lies halfway between two probabilities, so that rounding does not decide.
    """

    threshold: float
    f1: float


def average_precision(label: np.ndarray, probability: np.ndarray) -> float | None:
    """The area under the precision-recall curve of a class; None if no example has its label.

    Args:
      label: `[N]`, 0 or 1.
      probability: `[N]`.
    """
    return float(average_precision_score(label, probability)) if label.any() else None


def best_threshold(label: np.ndarray, probability: np.ndarray) -> BestThreshold | None:
    """The threshold of a class with the largest F1; None if no example has its label.

    Args:
      label: `[N]`, 0 or 1.
      probability: `[N]`.
    """
    if not label.any():
        return None
    precision, recall, thresholds = precision_recall_curve(label, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    next_lower = thresholds[best - 1] if best else 0.0
    return BestThreshold((float(thresholds[best]) + float(next_lower)) / 2, float(f1[best]))
