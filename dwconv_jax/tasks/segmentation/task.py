"""Semantic segmentation: losses of both heads, prediction and mean IoU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from etils import epath
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from dwconv_jax import data
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.data.info import Batch, DatasetInfo
from dwconv_jax.drawing import add_legend, label_overlay, make_palette, tile
from dwconv_jax.models import UPerNet
from dwconv_jax.tasks.pictures import read_upright, write_overlay, write_png
from dwconv_jax.tasks.segmentation.inference import mean_probabilities
from dwconv_jax.tasks.segmentation.losses import segmentation_loss
from dwconv_jax.tasks.segmentation.metrics import (
    IGNORED,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    areas_of,
    confusion_matrix,
)
from dwconv_jax.tasks.summary import Summary, class_scores, ratios
from dwconv_jax.tasks.task import (
    SHEET_SIZE,
    DeviceBatch,
    LossAndMetrics,
    Metrics,
    Prediction,
    Task,
)

if TYPE_CHECKING:
    from dwconv_jax.data.segmentation.dataset import SegmentationDataset

# A class of this name is not tinted in pictures.
_BACKGROUND = "background"


@flax.struct.dataclass
class SegmentationMetrics(clu_metrics.Collection):
    """Over all pixels of the set that are not ignored."""

    mean_iou: MeanIoU
    mean_accuracy: MeanAccuracy
    pixel_accuracy: PixelAccuracy


class Segmentation(Task):
    """The task that `config.task = "segmentation"` names."""

    best_metric = "mean_iou"

    @staticmethod
    def load_data(dataset: ConfigDict) -> "SegmentationDataset":
        """See `Task`."""
        return data.load_segmentation(dataset)

    @staticmethod
    def describe_data(dataset: ConfigDict) -> DatasetInfo:
        """See `Task`."""
        return data.describe_segmentation(dataset)

    def read_picture(self, path: epath.Path) -> Batch:
        """Reads a file as `views`, `label` (all `IGNORED`) and `size`; see `predict`."""
        from dwconv_jax.data.picture import read_picture
        from dwconv_jax.data.segmentation.preprocess import picture

        return read_picture(path, lambda encoded: picture(encoded, self._config.dataset))

    def loss(self, model: UPerNet, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """The loss of `image[B, H, W, C]` against `label[B, H, W]`; see `segmentation_loss`."""
        return segmentation_loss(model, batch["image"], batch["label"], rngs)

    def predict(self, model: UPerNet, batch: DeviceBatch) -> jax.Array:
        """Segments `views`, each `[B, h, w, C]`, at the original sizes, `size[B, 2]`.

        Returns:
          Label maps, uint8 `[B, H, W]`; `H` and `W` are those of `label[B, H, W]`, whose values are
          not used.
        """
        probabilities = mean_probabilities(
            model,
            batch["views"],
            batch["size"],
            batch["label"].shape[1:3],
            flip=self._config.dataset.eval_flip,
        )
        return probabilities.argmax(-1).astype(jnp.uint8)

    def evaluate(self, model: UPerNet, batch: DeviceBatch) -> tuple[SegmentationMetrics, jax.Array]:
        """Returns the counts of pixels of `label[B, H, W]`, and the predicted label maps.

        Labels are `IGNORED` outside an image and in the images that pad a batch.
        """
        predictions = self.predict(model, batch)
        confusion = confusion_matrix(batch["label"], predictions, self.num_classes)
        return SegmentationMetrics.single_from_model_output(confusion=confusion), predictions

    def summarize(self, metrics: Metrics) -> Summary:
        """Adds IoU, precision, recall and F1 (Dice) of each class, counted in pixels."""
        assert isinstance(metrics, SegmentationMetrics)
        confusion = metrics.mean_iou.confusion
        correct, labeled, predicted = areas = areas_of(confusion)
        classes = class_scores(self.class_names, *areas)
        ious = ratios(correct, labeled + predicted - correct)
        for scores, iou in zip(classes, ious, strict=True):
            scores["iou"] = iou
            scores["pixels"] = scores.pop("support")
        values = super().summarize(metrics).metrics
        return Summary(values, classes, np.asarray(confusion).tolist())

    def draw_training(self, batch: Batch) -> np.ndarray:
        """Draws crops as training sees them, tinted with their labels."""
        pairs = zip(batch["image"][:SHEET_SIZE], batch["label"], strict=False)
        return tile([self._overlay(to_pixels(x, self._config.dataset), y) for x, y in pairs])

    def draw(self, batch: Batch, predictions: np.ndarray) -> list[np.ndarray]:
        """Draws each picture beside its labels and the predicted ones, with their names."""
        pictures = []
        for i, (height, width) in enumerate(batch["size"]):
            view = Image.fromarray(to_pixels(batch["views"][0][i], self._config.dataset))
            image = np.asarray(view.resize((width, height)))
            maps = [x[i, :height, :width] for x in (batch["label"], predictions)]
            overlays = [self._overlay(image, labels) for labels in maps]
            pictures.append(self._name(np.concatenate([image, *overlays], axis=1), *maps))
        return pictures

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes a label map, `NAME.png`, and `NAME_overlay.png` in colors for each picture.

        With `zero_is_ignored`, label maps count from 1 too.
        """
        for _, name, path, batch, output in predictions:
            height, width = batch["size"][0]
            labels = output[:height, :width]
            overlay = self._name(self._overlay(read_upright(path), labels), labels)
            stored = labels + np.uint8(self._config.dataset.zero_is_ignored)
            write_png(out / f"{name}.png", stored)
            write_overlay(out, name, overlay)

    def _name(self, picture: np.ndarray, *maps: np.ndarray) -> np.ndarray:
        """Adds a legend of the classes that label maps hold."""
        classes = np.unique(np.concatenate([labels.ravel() for labels in maps]))
        seen = np.setdiff1d(classes, [*self._untinted, IGNORED])
        return add_legend(picture, seen, self.class_names, self._palette)

    @property
    def _palette(self) -> np.ndarray:
        return make_palette(self.num_classes)

    @property
    def _untinted(self) -> list[int]:
        return [i for i, name in enumerate(self.class_names) if name == _BACKGROUND]

    def _overlay(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Tints a picture with the colors of its labels, except for "background"."""
        shown = np.where(np.isin(labels, self._untinted), IGNORED, labels)
        return label_overlay(image, shown, self._palette)
