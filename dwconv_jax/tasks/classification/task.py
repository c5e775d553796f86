"""Image classification: cross-entropy, accuracy, and the data that goes with them."""

import csv
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
from dwconv_jax.data.dataset import Batch
from dwconv_jax.tasks.classification.mixing import mix
from dwconv_jax.tasks.task import SHEET_SIZE, Prediction, Task


@flax.struct.dataclass
class ClassificationMetrics(clu_metrics.Collection):
    """Means over the unmasked examples."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Average.from_output("accuracy")  # type: ignore[valid-type]
    top5_accuracy: clu_metrics.Average.from_output("top5_accuracy")  # type: ignore[valid-type]


class Classification(Task):
    """The task that `config.task = "classification"` names."""

    best_metric = "accuracy"

    def __init__(self, config: ConfigDict, *, described: bool = False):
        """Opens or only describes the data; errors in `config.dataset` show here.

        Raises:
          ValueError: for a config that cannot be; it names the field.
          FileNotFoundError: for data that is not there.
        """
        open_data = data.describe_classification if described else data.load_classification
        super().__init__(config, open_data(config.dataset))

    def loss(
        self, model: nnx.Module, batch: dict[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean cross-entropy of `image[B, H, W, C]` against smoothed `label[B]`, both mixed.

        The accuracy counts the class with the largest share of the mixture as right.
        """
        one_hot = jax.nn.one_hot(batch["label"], self.num_classes)
        targets = optax.smooth_labels(one_hot, self._config.label_smoothing)
        images, targets = mix(batch["image"], targets, rngs, self._config.mix)
        logits = model(images, train=True, rngs=rngs)
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, {"accuracy": (logits.argmax(-1) == targets.argmax(-1)).mean()}

    def draw_training(self, batch: Batch) -> np.ndarray:
        """Images as training sees them, mixed; here, each row of eight has a draw of its own."""
        images = jnp.asarray(batch["image"][:SHEET_SIZE])
        rows = ConfigDict({**self._config.mix, "group_size": math.gcd(len(images), 8)})
        no_targets = jnp.zeros((len(images), 1))
        mixed, _ = mix(images, no_targets, nnx.Rngs(self._config.seed), rows)
        return super().draw_training({"image": np.asarray(mixed)})

    def evaluate(
        self, model: nnx.Module, batch: dict[str, jax.Array]
    ) -> tuple[ClassificationMetrics, jax.Array]:
        """Sums over the examples whose `mask[B]` is 1, and the probabilities, `[B, classes]`."""
        logits, label = model(batch["image"], train=False), batch["label"]
        _, guesses = jax.lax.top_k(logits, min(5, self.num_classes))
        hits = (guesses == label[:, None]).astype(jnp.float32)
        metrics = ClassificationMetrics.single_from_model_output(
            loss=optax.softmax_cross_entropy_with_integer_labels(logits, label),
            accuracy=hits[:, 0],
            top5_accuracy=hits.max(-1),
            mask=batch["mask"],
        )
        return metrics, jax.nn.softmax(logits)

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """`predictions.csv`: a line a picture, with the most probable classes, best first.

        And contact sheets, `sheet_001.png` and so on, as the network saw the pictures.
        """
        # Training has no need of matplotlib.
        from dwconv_jax.tasks.classification.contact_sheets import ContactSheets

        ranks = range(1, min(5, self.num_classes) + 1)
        columns = (name for k in ranks for name in (f"class_{k}", f"probability_{k}"))
        rows, sheets = [["picture", *columns]], ContactSheets(out)
        for path, batch, probabilities in predictions:
            best = np.argsort(-probabilities)[: len(ranks)]
            guesses = [(self.class_names[k], probabilities[k]) for k in best]
            rows.append([path.name, *(x for name, p in guesses for x in (name, f"{p:.4f}"))])
            sheets.add(batch["image"][0], "{}\n{} {:.0%}".format(path.name, *guesses[0]))
        sheets.flush()
        with (out / "predictions.csv").open("w") as file:
            csv.writer(file).writerows(rows)
