"""Detection and instance segmentation: the losses, COCO's average precision, and the data."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from dwconv_jax import data
from dwconv_jax.data.dataset import Batch
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.errors import UserError
from dwconv_jax.models import CascadeMaskRCNN
from dwconv_jax.tasks.detection.losses import Objects, detection_loss
from dwconv_jax.tasks.detection.metrics import DetectionMetrics, Truth, to_results
from dwconv_jax.tasks.detection.pictures import draw_annotations, write_detections
from dwconv_jax.tasks.task import Prediction, Task


class Detection(Task):
    """The task that `config.task = "detection"` names."""

    best_metric = "mask_ap"

    def __init__(self, config: ConfigDict, *, described: bool = False):
        """Opens the data; errors in `config.dataset` show here.

        Args:
          config: of the run.
          described: does without the examples; such a task has no batches.

        Raises:
          ValueError: for a config or annotations that cannot be; it names the field.
          FileNotFoundError: for data that is not there.
        """
        if config.accumulation_steps != 1:
            raise UserError(
                f"config.accumulation_steps={config.accumulation_steps} must be 1 for detection: "
                "micro-batches would part the pairs of images that losses are normalised over"
            )
        open_data: Any = data.describe_detection if described else data.load_detection
        dataset = open_data(config.dataset)
        super().__init__(config, dataset)
        if not described:
            self._truth = Truth(dataset.eval_annotations())
            self._categories = dataset.categories

    def loss(
        self, model: CascadeMaskRCNN, batch: dict[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of `image[B, H, W, C]` of `size[B, 2]` and its objects; see `detection_loss`."""
        objects = Objects(batch["boxes"], batch["classes"], batch["masks"])
        return detection_loss(model, batch["image"], batch["size"], objects, rngs)

    def evaluate(
        self, model: CascadeMaskRCNN, batch: dict[str, Any]
    ) -> tuple[DetectionMetrics, dict[str, jax.Array]]:
        """Average precision over the images whose `mask[B]` is 1, and what was found in each.

        The predictions are the fields of `MaskedDetections`, in pixels of the original images.
        """
        found = model(batch["image"], batch["size"], batch["scale"])._asdict()
        metrics = DetectionMetrics.from_model_output(
            detections=found, batch=batch, truth=self._truth
        )
        return metrics, found

    def draw(self, batch: Batch, predictions: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Each picture with its objects beside the same with what was found."""
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
        """For each picture `NAME_overlay.png`, and for all `detections.json`, as COCO's files."""
        write_detections(predictions, out, self._categories)
