"""Multi-label classification: binary cross-entropy, prediction and mean average precision."""

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax import data
from dwconv_jax.data.classification.info import ClassificationInfo
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.data.info import Batch, DatasetInfo
from dwconv_jax.tasks.classification.mixing import mix
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.tasks.multilabel.metrics import (
    MultilabelMetrics,
    Outputs,
    average_precision,
    best_threshold,
)
from dwconv_jax.tasks.pictures import write_csv
from dwconv_jax.tasks.summary import Summary, class_scores, mean_score
from dwconv_jax.tasks.task import DeviceBatch, LossAndMetrics, Metrics, Mistake, Prediction

if TYPE_CHECKING:
    from dwconv_jax.data.multilabel.dataset import MultilabelDataset

_BETWEEN_LABELS = ";"
_EVEN = 0.5  # the threshold where no other is known
_log = logging.getLogger("dwconv_jax")


class Multilabel(Classification):
    """The task that `config.task = "multilabel"` names: a yes or no for each class."""

    best_metric = "mean_ap"

    def __init__(
        self,
        config: ConfigDict,
        description: DataDescription,
        dataset: ClassificationInfo | None = None,
    ):
        """See `Classification`."""
        super().__init__(config, description, dataset)
        chosen = config.dataset.threshold
        self._threshold = _EVEN if chosen is None else chosen
        self.thresholds = (self._threshold,) * self.num_classes

    @staticmethod
    def load_data(dataset: ConfigDict) -> "MultilabelDataset":
        """See `Task`."""
        return data.load_multilabel(dataset)

    @staticmethod
    def describe_data(dataset: ConfigDict) -> DatasetInfo:
        """See `Task`."""
        return data.load_multilabel(dataset)

    def use_evaluation(self, summary: Summary) -> None:
        """Takes over the thresholds with the largest F1, unless `config.dataset.threshold` is set.

        See `Task`.
        """
        if self._config.dataset.threshold is not None:
            return
        if not summary.classes:
            _log.warning(
                f"no evaluation of this checkpoint is on record, or not the newest: its thresholds "
                f"are {_EVEN}; evaluate it to find better ones"
            )
            return
        found = [scores.get("best_threshold") for scores in summary.classes]
        self.thresholds = tuple(_EVEN if best is None else best for best in found)

    def loss(self, model: nnx.Module, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """Mean binary cross-entropy of `image[B, H, W, C]` against `label[B, classes]`, both mixed.

        Class weights multiply the losses of examples that have the label, as PyTorch's
        `pos_weight`.
        """
        smoothing = self._config.label_smoothing
        targets = batch["label"].astype(jnp.float32) * (1 - smoothing) + smoothing / 2
        images, targets = mix(batch["image"], targets, rngs, self._config.mix)
        logits = model(images, train=True, rngs=rngs)
        losses = _cross_entropy(logits, targets, self._class_weights)
        accuracy = ((logits > 0) == (targets > 0.5)).mean()
        return losses.mean(), {"label_accuracy": accuracy}

    def evaluate(
        self, model: nnx.Module, batch: DeviceBatch
    ) -> tuple[MultilabelMetrics, jax.Array]:
        """Returns the scores of the examples whose `mask[B]` is 1, and the logits."""
        logits, label = self.predict(model, batch), batch["label"]
        losses = _cross_entropy(logits, label.astype(jnp.float32), None).mean(-1)
        outputs = Outputs(losses, jax.nn.sigmoid(logits), label, batch["mask"])
        return MultilabelMetrics.from_model_output(outputs), logits

    def summarize(self, metrics: Metrics) -> Summary:
        """Returns mean AP, F1, and the scores of each class."""
        assert isinstance(metrics, MultilabelMetrics)
        loss, probability, label, _ = metrics.examples()
        found = probability >= self._threshold
        correct, labeled, predicted = (found & (label > 0)).sum(0), label.sum(0), found.sum(0)
        classes = class_scores(self.class_names, correct, labeled, predicted)
        for k, scores in enumerate(classes):
            best = best_threshold(label[:, k], probability[:, k])
            scores["ap"] = average_precision(label[:, k], probability[:, k])
            scores["best_f1"] = None if best is None else best.f1
            scores["best_threshold"] = None if best is None else best.threshold
        named = labeled.sum() + predicted.sum()
        values = {
            "loss": float(loss.mean()),
            "mean_ap": mean_score(classes, "ap"),
            "macro_f1": mean_score(classes, "f1"),
            "micro_f1": float(2 * correct.sum() / named) if named else 0.0,
        }
        return Summary(values, classes)

    def find_mistakes(self, batch: Batch, predictions: np.ndarray) -> list[Mistake]:
        """Finds the examples with a class on the wrong side of the threshold."""
        probabilities, label = _sigmoid(predictions), batch["label"] > 0
        found = probabilities >= self._threshold
        wrong = (found != label) & (batch["mask"] > 0)[:, None]
        scores = np.where(wrong, np.where(found, probabilities, 1 - probabilities), 0)
        return [
            Mistake(i, float(scores[i].max()), self._names(label[i]), self._names(found[i]))
            for i in map(int, np.flatnonzero(wrong.any(-1)))
        ]

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes `predictions.csv` and contact sheets, `sheet_001.png` and so on.

        The table has a line for each picture: the classes that reach their threshold, most probable
        first, and the probability of every class.
        """
        # Training does not need matplotlib.
        from dwconv_jax.tasks.classification.sheets import SheetWriter

        rows: list[Sequence[str]] = [("picture", "labels", *self.class_names)]
        sheets = SheetWriter(out)
        for name, _, _, batch, logits in predictions:
            probabilities = _sigmoid(logits)
            order = np.argsort(-probabilities)
            present = order[(probabilities >= self.thresholds)[order]]
            labels = [self.class_names[k] for k in present]
            rows.append((name, _BETWEEN_LABELS.join(labels), *(f"{p:.4f}" for p in probabilities)))
            image = to_pixels(batch["image"][0], self._config.dataset)
            sheets.add(image, f"{name}\n{', '.join(labels) or 'none'}")
        sheets.flush()
        write_csv(out / "predictions.csv", rows)

    def _names(self, present: np.ndarray) -> str:
        return ", ".join(self.class_names[k] for k in np.flatnonzero(present)) or "none"


def _cross_entropy(logits: jax.Array, targets: jax.Array, weights: np.ndarray | None) -> jax.Array:
    """Binary cross-entropy, `[B, K]`; `weights[K]` multiply the part of positives."""
    positive = jnp.ones((1, 1)) if weights is None else jnp.asarray(weights)[None]
    present, absent = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -(positive * targets * present + (1 - targets) * absent)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.sigmoid(logits))
