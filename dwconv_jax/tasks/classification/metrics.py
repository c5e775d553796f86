"""Metrics of classifiers: means over examples, and counts by class."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

# Confusion matrices of more classes do not fit into memory, nor on a page.
_MOST_CONFUSED = 1_000


@flax.struct.dataclass
class BalancedAccuracy(clu_metrics.Metric):
    """Recall, averaged over the classes that occur; from the counts of all scores by class.

    Attributes:
      correct: int32 `[K]`, examples of a class that are predicted as such.
      labeled: int32 `[K]`, examples of a class.
      predicted: int32 `[K]`, examples predicted as a class.
      confusion: int32 `[K, K]`, by class and prediction; None for more than 1,000 classes.
    """

    correct: Any
    labeled: Any
    predicted: Any
    confusion: Any

    @classmethod
    def from_model_output(
        cls, *, label: jax.Array, guess: jax.Array, mask: jax.Array, num_classes: int, **_: Any
    ) -> "BalancedAccuracy":
        """Counts the unmasked examples of a batch; `label`, `guess` and `mask` are `[B]`."""
        counted = mask.astype(jnp.int32)
        zeros = jnp.zeros(num_classes, jnp.int32)
        confusion = None
        if num_classes <= _MOST_CONFUSED:
            confusion = jnp.zeros((num_classes, num_classes), jnp.int32)
            confusion = confusion.at[label, guess].add(counted)
        return cls(
            correct=zeros.at[label].add(counted * (label == guess)),
            labeled=zeros.at[label].add(counted),
            predicted=zeros.at[guess].add(counted),
            confusion=confusion,
        )

    def merge(self, other: "BalancedAccuracy") -> "BalancedAccuracy":
        """Returns the metric of both."""
        return jax.tree.map(jnp.add, self, other)

    def compute(self) -> float:
        """In 0..1."""
        correct, labeled = np.asarray(self.correct), np.asarray(self.labeled)
        return float(np.mean(correct[labeled > 0] / labeled[labeled > 0]))


@flax.struct.dataclass
class ClassificationMetrics(clu_metrics.Collection):
    """Over the unmasked examples."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Average.from_output("accuracy")  # type: ignore[valid-type]
    top5_accuracy: clu_metrics.Average.from_output("top5_accuracy")  # type: ignore[valid-type]
    balanced_accuracy: BalancedAccuracy
