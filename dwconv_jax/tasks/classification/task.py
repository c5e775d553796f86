"""Image classification: cross-entropy, prediction and accuracy."""

import csv
import io
import math
from collections.abc import Iterable

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics
from etils import epath
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax import data
from dwconv_jax.data.classification.preprocess import picture
from dwconv_jax.data.dataset import Batch
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.data.picture import read_picture
from dwconv_jax.files import write_atomically
from dwconv_jax.tasks.classification.mixing import mix
from dwconv_jax.tasks.task import SHEET_SIZE, DeviceBatch, LossAndMetrics, Prediction, Task

_MOST_GUESSES = 5


@flax.struct.dataclass
class ClassificationMetrics(clu_metrics.Collection):
    """Means over the unmasked examples."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Average.from_output("accuracy")  # type: ignore[valid-type]
    top5_accuracy: clu_metrics.Average.from_output("top5_accuracy")  # type: ignore[valid-type]


class Classification(Task):
    """The task that `config.task = "classification"` names."""

    best_metric = "accuracy"
    load_data = staticmethod(data.load_classification)
    describe_data = staticmethod(data.describe_classification)

    def read_picture(self, path: epath.Path) -> Batch:
        """Reads a file as `image[1, S, S, C]`, resized and cropped as for evaluation."""
        config, channels = self._config.dataset, self.description.channels
        return read_picture(path, lambda encoded: picture(encoded, config, channels))

    def loss(self, model: nnx.Module, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """Mean cross-entropy of `image[B, H, W, C]` against smoothed `label[B]`, both mixed.

        For the accuracy, the class with the largest share of a mixture is its label.
        """
        one_hot = jax.nn.one_hot(batch["label"], self.num_classes)
        targets = optax.smooth_labels(one_hot, self._config.label_smoothing)
        images, targets = mix(batch["image"], targets, rngs, self._config.mix)
        logits = model(images, train=True, rngs=rngs)
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, {"accuracy": (logits.argmax(-1) == targets.argmax(-1)).mean()}

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
        _, guesses = jax.lax.top_k(logits, min(_MOST_GUESSES, self.num_classes))
        hits = (guesses == label[:, None]).astype(jnp.float32)
        metrics = ClassificationMetrics.single_from_model_output(
            loss=optax.softmax_cross_entropy_with_integer_labels(logits, label),
            accuracy=hits[:, 0],
            top5_accuracy=hits.max(-1),
            mask=batch["mask"],
        )
        return metrics, logits

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes `predictions.csv` and contact sheets, `sheet_001.png` and so on.

        The table has a line for each picture with the most probable classes, best first; the sheets
        show the pictures as the network sees them.
        """
        # Training does not need matplotlib.
        from dwconv_jax.tasks.classification.sheets import SheetWriter

        ranks = range(1, min(_MOST_GUESSES, self.num_classes) + 1)
        columns = (name for k in ranks for name in (f"class_{k}", f"probability_{k}"))
        rows, sheets = [["picture", *columns]], SheetWriter(out)
        for name, _, _, batch, logits in predictions:
            probabilities = np.asarray(jax.nn.softmax(logits))
            best = np.argsort(-probabilities)[: len(ranks)]
            guesses = [(self.class_names[k], probabilities[k]) for k in best]
            rows.append([name, *(x for guess, p in guesses for x in (guess, f"{p:.4f}"))])
            image = to_pixels(batch["image"][0], self._config.dataset)
            sheets.add(image, "{}\n{} {:.0%}".format(name, *guesses[0]))
        sheets.flush()
        table = io.StringIO(newline="")
        csv.writer(table).writerows(rows)
        write_atomically(out / "predictions.csv", table.getvalue())
