"""Detection and instance segmentation: losses, prediction and COCO's average precision."""

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from dwconv_jax import data
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.data.info import Batch, DatasetInfo
from dwconv_jax.errors import UserError
from dwconv_jax.models import CascadeMaskRCNN
from dwconv_jax.tasks.detection.losses import Objects, detection_loss
from dwconv_jax.tasks.detection.metrics import DetectionMetrics, Truth, to_results
from dwconv_jax.tasks.detection.pictures import draw_annotations, write_detections
from dwconv_jax.tasks.summary import Summary
from dwconv_jax.tasks.task import DeviceBatch, LossAndMetrics, Metrics, Prediction, Task

if TYPE_CHECKING:
    from dwconv_jax.data.detection.dataset import DetectionDataset


class Detection(Task):
    """The task that `config.task = "detection"` names."""

    best_metric = "mask_ap"

    @staticmethod
    def load_data(dataset: ConfigDict) -> "DetectionDataset":
        """See `Task`."""
        return data.load_detection(dataset)

    @staticmethod
    def describe_data(dataset: ConfigDict) -> DatasetInfo:
        """See `Task`."""
        return data.describe_detection(dataset)

    @staticmethod
    def check_config(config: ConfigDict) -> None:
        """Raises a UserError for micro-batches, which would split pairs of images."""
        if config.accumulation_steps != 1:
            raise UserError(
                f"config.accumulation_steps={config.accumulation_steps} must be 1 for detection: "
                "micro-batches would part the pairs of images that losses are normalized over"
            )

    @functools.cached_property
    def _truth(self) -> Truth:
        dataset: Any = self.dataset
        return Truth(dataset.eval_annotations())

    def read_picture(self, path: epath.Path) -> Batch:
        """Reads a file as `image[1, H, W, 3]`, and as `size`, `scale`, `original_size[1, 2]`."""
        from dwconv_jax.data.detection.preprocess import picture
        from dwconv_jax.data.picture import read_picture

        return read_picture(path, lambda encoded: picture(encoded, self._config.dataset))

    def loss(self, model: CascadeMaskRCNN, batch: DeviceBatch, rngs: nnx.Rngs) -> LossAndMetrics:
        """The loss of `image[B, H, W, C]` of `size[B, 2]` and its objects; see `detection_loss`."""
        objects = Objects(batch["boxes"], batch["classes"], batch["masks"])
        return detection_loss(model, batch["image"], batch["size"], objects, rngs)

    def predict(self, model: CascadeMaskRCNN, batch: DeviceBatch) -> dict[str, jax.Array]:
        """Detects objects in `image[B, H, W, C]`, given `size[B, 2]` and `scale[B, 2]`.

        Returns:
          The fields of `MaskedDetections`, in pixels of the original images.
        """
        return model(batch["image"], batch["size"], batch["scale"])._asdict()

    def evaluate(
        self, model: CascadeMaskRCNN, batch: DeviceBatch
    ) -> tuple[DetectionMetrics, dict[str, jax.Array]]:
        """Returns the average precision over images whose `mask[B]` is 1, and the detections."""
        found = self.predict(model, batch)
        metrics = DetectionMetrics.from_model_output(
            detections=found, batch=batch, truth=self._truth
        )
        return metrics, found

    def summarize(self, metrics: Metrics) -> Summary:
        """Adds the average precision of each class."""
        assert isinstance(metrics, DetectionMetrics)
        precision, counts = metrics.precision(), self._truth.count_objects(self.num_classes)
        classes = [
            {"name": name, **precision.of_class(k), "objects": counts[k]}
            for k, name in enumerate(self.class_names)
        ]
        return Summary(precision.average(), classes)

    def draw(self, batch: Batch, predictions: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Draws each picture twice: with its objects, and with the detections."""
        pictures, config = [], self._config.dataset
        for i, original_size in enumerate(batch["original_size"]):
            height, width = batch["size"][i]
            view = Image.fromarray(to_pixels(batch["image"][i, :height, :width], config))
            image = np.asarray(view.resize(tuple(original_size[::-1])))
            found = {name: array[i] for name, array in predictions.items()}
            image_id = int(batch["image_id"][i])
            sides = [
                draw_annotations(image, entries, self.class_names)
                for entries in (
                    self._truth.of_image(image_id),
                    to_results(found, image_id, original_size),
                )
            ]
            pictures.append(np.concatenate(sides, axis=1))
        return pictures

    def write_predictions(self, predictions: Iterable[Prediction], out: epath.Path) -> None:
        """Writes `NAME_overlay.png` for each picture, and `detections.json` in COCO's format."""
        ids = self.description.category_ids
        assert ids is not None, "a description of detection data has category ids"
        write_detections(predictions, out, dict(zip(ids, self.class_names, strict=True)))
