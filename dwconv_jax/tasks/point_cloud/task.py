"""Point clouds: random views and the loss of training, evaluation over many views, pictures."""

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
from dwconv_jax.data.point_cloud.dataset import PointCloudDataset
from dwconv_jax.data.point_cloud.files import SUFFIXES, read_cloud
from dwconv_jax.drawing import tile
from dwconv_jax.models.point_prompt import (
    CloudPreprocessing,
    PointClassifier,
    create_point_classifier,
)
from dwconv_jax.models.point_prompt.sampling import farthest_points, take_points
from dwconv_jax.models.point_prompt.views import (
    evaluation_rotations,
    random_views,
    scale_and_shift,
    turn,
)
from dwconv_jax.tasks.classification.metrics import BalancedAccuracy
from dwconv_jax.tasks.guesses import GuessTable, caption
from dwconv_jax.tasks.pictures import write_png
from dwconv_jax.tasks.point_cloud.losses import smoothed_cross_entropy
from dwconv_jax.tasks.point_cloud.pictures import draw_cloud, draw_views
from dwconv_jax.tasks.summary import Summary, class_scores
from dwconv_jax.tasks.task import (
    SHEET_SIZE,
    DeviceBatch,
    LossAndMetrics,
    Metrics,
    Prediction,
    Task,
)

# The reference draws 1,024 points out of 1,200 that are far from each other, and so on.
_POOL = 75 / 64


@flax.struct.dataclass
class PointCloudMetrics(clu_metrics.Collection):
    """Of the logits averaged over views, but for `view_accuracy`, to which each view counts."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    accuracy: clu_metrics.Average.from_output("accuracy")  # type: ignore[valid-type]
    view_accuracy: clu_metrics.Average.from_output("view_accuracy")  # type: ignore[valid-type]
    balanced_accuracy: BalancedAccuracy


class PointCloudClassification(Task):
    """The task that `config.task = "point_cloud"` names."""

    best_metric = "accuracy"
    input_kind = "cloud"
    suffixes = SUFFIXES

    @staticmethod
    def load_data(dataset: ConfigDict) -> PointCloudDataset:
        """See `Task`."""
        return data.load_point_clouds(dataset)

    @staticmethod
    def describe_data(dataset: ConfigDict) -> PointCloudDataset:
        """See `Task`."""
        return data.describe_point_clouds(dataset)

    def create_model(self, rngs: nnx.Rngs) -> PointClassifier:
        """Creates the classifier of `config.model` behind the prompt of `config.model.prompt`."""
        arguments = self._config.model.to_dict()
        model = create_point_classifier(
            arguments.pop("name"),
            num_classes=self.num_classes,
            mean=self._config.dataset.mean,
            std=self._config.dataset.std,
            rngs=rngs,
            **arguments,
        )
        model.preprocessing = self._preprocessing
        return model

    @property
    def _preprocessing(self) -> CloudPreprocessing:
        dataset = self._config.dataset
        return CloudPreprocessing(
            unit_sphere=dataset.unit_sphere,
            cloud_size=dataset.cloud_size,
            num_points=dataset.num_points,
            num_views=dataset.eval_views,
        )

    def read_picture(self, path: epath.Path) -> Batch:
        """Reads a file as `points[1, cloud_size, 3]`; see `read_cloud`."""
        points = read_cloud(path, self._config.dataset.cloud_size)
        return {"points": self._preprocessing(points)[None]}

    def loss(self, model: PointClassifier, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """Mean cross-entropy of `points[B, N, 3]`, each from a random place, against `label[B]`."""
        points = self._random_points(batch["points"], rngs.points())
        seen = turn(points, random_views(rngs.views(), len(points)))
        seen = scale_and_shift(rngs.distortion(), seen)
        logits = model(points, seen, train=True, rngs=rngs)
        losses = smoothed_cross_entropy(logits, batch["label"], self._config.label_smoothing)
        return losses.mean(), {"accuracy": (logits.argmax(-1) == batch["label"]).mean()}

    def _random_points(self, points: jax.Array, key: jax.Array) -> jax.Array:
        """Draws `num_points` out of a few more that are far from each other.

        As in the reference, all clouds of a batch draw the same places in that order.
        """
        count, available = self._config.dataset.num_points, points.shape[1]
        pool = round(_POOL * count)
        if pool < available:
            points = take_points(points, farthest_points(points, pool))
        return points[:, jax.random.permutation(key, points.shape[1])[:count]]

    def predict(self, model: PointClassifier, batch: DeviceBatch) -> dict[str, jax.Array]:
        """Looks at `points[B, N, 3]` from `config.dataset.eval_views` places.

        Returns:
          `logits`, float32 `[B, views, classes]`, and `pictures`, uint8 `[B, views, S, S, 3]`.
        """
        logits, pictures = model.predict(batch["points"])
        return {"logits": logits, "pictures": (255 * pictures).round().astype(jnp.uint8)}

    def evaluate(
        self, model: PointClassifier, batch: DeviceBatch
    ) -> tuple[PointCloudMetrics, dict[str, jax.Array]]:
        """Returns sums over the clouds whose `mask[B]` is 1, and what `predict` returns."""
        predictions, label = self.predict(model, batch), batch["label"]
        of_views = predictions["logits"]
        logits = of_views.mean(1)
        guess = logits.argmax(-1)
        metrics = PointCloudMetrics.single_from_model_output(
            loss=optax.softmax_cross_entropy_with_integer_labels(logits, label),
            accuracy=guess == label,
            view_accuracy=(of_views.argmax(-1) == label[:, None]).mean(1),
            mask=batch["mask"],
            label=label,
            guess=guess,
            num_classes=self.num_classes,
        )
        return metrics, predictions

    def summarize(self, metrics: Metrics) -> Summary:
        """Adds precision, recall and F1 of each class."""
        assert isinstance(metrics, PointCloudMetrics)
        counts = jax.tree.map(np.asarray, metrics.balanced_accuracy)
        return Summary(
            super().summarize(metrics).metrics,
            class_scores(self.class_names, counts.correct, counts.labeled, counts.predicted),
            counts.confusion.tolist(),
        )

    def draw_training(self, batch: Batch) -> np.ndarray:
        """Draws clouds of a training batch, all from one place."""
        clouds = batch["points"][:SHEET_SIZE] @ self._rotations[0].T
        return tile([draw_cloud(cloud) for cloud in clouds])

    def draw(self, batch: Batch, predictions: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Draws each cloud from a few places, and below it the pictures that the prompt paints."""
        logits, pictures = predictions["logits"].mean(1), predictions["pictures"]
        rows = zip(batch["points"], pictures, batch["label"], logits, strict=True)
        names = self.class_names
        return [
            draw_views(points, self._rotations, painted, f"{names[label]}: {caption(names, row)}")
            for points, painted, label, row in rows
        ]

    @property
    def _rotations(self) -> np.ndarray:
        return np.asarray(evaluation_rotations(self._config.dataset.eval_views))

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes `predictions.csv`, and for each cloud `NAME.png` with its views.

        The table has a line for each cloud with the most probable classes, best first.
        """
        table = GuessTable("cloud", self.class_names)
        for name, output_name, _, batch, output in predictions:
            guess = table.add(name, output["logits"].mean(0))
            (points,) = batch["points"]
            views = draw_views(points, self._rotations, output["pictures"], f"{name}: {guess}")
            write_png(out / f"{output_name}.png", views)
        table.write(out)
