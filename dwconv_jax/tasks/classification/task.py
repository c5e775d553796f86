"""Image classification: cross-entropy, prediction and accuracy."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax import data
from dwconv_jax.data.classification.info import ClassificationInfo
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.data.info import Batch, DatasetInfo
from dwconv_jax.tasks.classification.class_weights import class_weights
from dwconv_jax.tasks.classification.metrics import ClassificationMetrics
from dwconv_jax.tasks.classification.mixing import mix
from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.tasks.guesses import GuessTable
from dwconv_jax.tasks.summary import Summary, class_scores, mean_score
from dwconv_jax.tasks.task import (
    SHEET_SIZE,
    DeviceBatch,
    LossAndMetrics,
    Metrics,
    Mistake,
    Prediction,
    Task,
)

if TYPE_CHECKING:
    from dwconv_jax.data.classification.dataset import ClassificationDataset

_TOP = 5  # of the top-5 accuracy


class Classification(Task):
    """The task that `config.task = "classification"` names."""

    best_metric = "accuracy"
    _class_weights: np.ndarray | None = None

    def __init__(
        self,
        config: ConfigDict,
        description: DataDescription,
        dataset: ClassificationInfo | None = None,
    ):
        """See `Task`; raises a UserError if `config.class_weights` does not fit the data."""
        super().__init__(config, description, dataset)
        if dataset is not None:
            self._class_weights = class_weights(config.class_weights, dataset)

    @staticmethod
    def load_data(dataset: ConfigDict) -> "ClassificationDataset":
        """See `Task`."""
        return data.load_classification(dataset)

    @staticmethod
    def describe_data(dataset: ConfigDict) -> DatasetInfo:
        """See `Task`."""
        return data.describe_classification(dataset)

    def read_picture(self, path: epath.Path) -> Batch:
        """Reads a file as `image[1, S, S, C]`, resized and cropped as for evaluation."""
        from dwconv_jax.data.classification.preprocess import picture
        from dwconv_jax.data.picture import read_picture

        config, channels = self._config.dataset, self.description.channels
        return read_picture(path, lambda encoded: picture(encoded, config, channels))

    def loss(self, model: nnx.Module, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """Mean cross-entropy of `image[B, H, W, C]` against smoothed `label[B]`, both mixed.

        Shares of a class in a target are multiplied by its weight. For the accuracy, the class with
        the largest share of a mixture is its label.
        """
        one_hot = jax.nn.one_hot(batch["label"], self.num_classes)
        targets = optax.smooth_labels(one_hot, self._config.label_smoothing)
        images, targets = mix(batch["image"], targets, rngs, self._config.mix)
        logits = model(images, train=True, rngs=rngs)
        accuracy = (logits.argmax(-1) == targets.argmax(-1)).mean()
        if self._class_weights is not None:
            targets *= self._class_weights[None]
        return optax.softmax_cross_entropy(logits, targets).mean(), {"accuracy": accuracy}

    def draw_training(self, batch: Batch) -> np.ndarray:
        """Draws images as training sees them, mixed; each row of eight has its own draw."""
        images = jnp.asarray(batch["image"][:SHEET_SIZE])
        rows = ConfigDict({**self._config.mix, "group_size": math.gcd(len(images), 8)})
        no_targets = jnp.zeros((len(images), 1))
        mixed, _ = mix(images, no_targets, nnx.Rngs(self._config.seed), rows)
        return super().draw_training({"image": np.asarray(mixed)})

    def predict(self, model: nnx.Module, batch: DeviceBatch) -> jax.Array:
        """Returns the logits of `image[B, H, W, C]`, `[B, classes]`."""
        return model(batch["image"], train=False)

    def evaluate(
        self, model: nnx.Module, batch: DeviceBatch
    ) -> tuple[ClassificationMetrics, jax.Array]:
        """Returns sums over the examples whose `mask[B]` is 1, and the logits."""
        logits, label = self.predict(model, batch), batch["label"]
        _, guesses = jax.lax.top_k(logits, min(_TOP, self.num_classes))
        hits = (guesses == label[:, None]).astype(jnp.float32)
        metrics = ClassificationMetrics.single_from_model_output(
            loss=optax.softmax_cross_entropy_with_integer_labels(logits, label),
            accuracy=hits[:, 0],
            top5_accuracy=hits.max(-1),
            label=label,
            guess=guesses[:, 0],
            num_classes=self.num_classes,
            mask=batch["mask"],
        )
        return metrics, logits

    def summarize(self, metrics: Metrics) -> Summary:
        """Adds the mean F1 of the classes, and precision, recall and F1 of each."""
        assert isinstance(metrics, ClassificationMetrics)
        values, counts = super().summarize(metrics).metrics, metrics.balanced_accuracy
        if self.num_classes <= _TOP:
            del values["top5_accuracy"]  # always 1
        correct, labeled, predicted = map(
            np.asarray, (counts.correct, counts.labeled, counts.predicted)
        )
        classes = class_scores(self.class_names, correct, labeled, predicted)
        values["macro_f1"] = mean_score(classes, "f1")
        confusion = None if counts.confusion is None else np.asarray(counts.confusion).tolist()
        return Summary(values, classes, confusion)

    def find_mistakes(self, batch: Batch, predictions: np.ndarray) -> list[Mistake]:
        """Finds the examples whose most probable class is wrong, given logits `[B, classes]`."""
        probabilities = np.asarray(jax.nn.softmax(predictions))
        guesses, names = probabilities.argmax(-1), self.class_names
        return [
            Mistake(i, float(probabilities[i].max()), names[batch["label"][i]], names[guesses[i]])
            for i in map(int, np.flatnonzero((guesses != batch["label"]) & (batch["mask"] > 0)))
        ]

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes `predictions.csv` and contact sheets, `sheet_001.png` and so on.

        The table has a line for each picture with the most probable classes, best first; the sheets
        show the pictures as the network sees them.
        """
        # Training does not need matplotlib.
        from dwconv_jax.tasks.classification.sheets import SheetWriter

        table, sheets = GuessTable("picture", self.class_names), SheetWriter(out)
        for name, _, _, batch, logits in predictions:
            image = to_pixels(batch["image"][0], self._config.dataset)
            sheets.add(image, f"{name}\n{table.add(name, logits)}")
        sheets.flush()
        table.write(out)
