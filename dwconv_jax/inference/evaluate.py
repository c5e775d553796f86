"""A trained classifier on its evaluation split: what it confuses, and its worst mistakes."""

import dataclasses

import jax
import numpy as np
from flax import nnx

from dwconv_jax.inference.trained import TrainedModel
from dwconv_jax.tasks.registry import create_task

_NUM_MISTAKES, _NUM_EXAMPLES = 24, 5


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A misclassified image `[H, W, C]`, normalized, with the probability of the prediction."""

    probability: float
    image: np.ndarray
    label: int
    prediction: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a classifier predicts for a whole evaluation split.

    Attributes:
      counts: int `[classes, classes]`, images by class (row) and prediction (column).
      examples: a few normalized images, `[B, H, W, C]`.
      mistakes: the most confident ones, best first.
    """

    counts: np.ndarray
    examples: np.ndarray
    mistakes: list[Mistake]

    @property
    def accuracy(self) -> float:
        """The share of images that are classified correctly."""
        return float(np.trace(self.counts) / self.counts.sum())


def evaluate_classifier(trained: TrainedModel) -> Evaluation:
    """Evaluates a model on the default device.

    Raises:
      UserError: if the evaluation data cannot be used.
      FileNotFoundError: if it is missing.
    """
    task = create_task(trained.config)
    graph, state = nnx.split(trained.model)

    @jax.jit
    def probabilities(state: nnx.State, batch: dict[str, np.ndarray]) -> jax.Array:
        return jax.nn.softmax(task.predict(nnx.merge(graph, state), batch))

    counts = np.zeros((task.num_classes, task.num_classes), int)
    examples: np.ndarray | None = None
    mistakes: list[Mistake] = []
    for batch in task.eval_batches():
        found = np.asarray(probabilities(state, batch))
        real = batch["mask"] > 0
        image, label, found = batch["image"][real], batch["label"][real], found[real]
        prediction, probability = found.argmax(-1), found.max(-1)
        np.add.at(counts, (label, prediction), 1)
        examples = image[:_NUM_EXAMPLES] if examples is None else examples
        mistakes += [
            Mistake(float(probability[i]), image[i], int(label[i]), int(prediction[i]))
            for i in np.flatnonzero(prediction != label)
        ]
        mistakes = sorted(mistakes, key=lambda m: -m.probability)[:_NUM_MISTAKES]
    assert examples is not None, "an evaluation split has at least one batch"
    return Evaluation(counts, examples, mistakes)
