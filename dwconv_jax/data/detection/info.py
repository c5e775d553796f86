"""What is known of images with objects without opening them."""

import math

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dwconv_jax.data.catalog import count_training_examples, find_builder, prepare_builder
from dwconv_jax.data.detection.config import CHANNELS, DetectionConfig
from dwconv_jax.data.detection.geometry import PAIR
from dwconv_jax.data.info import ArraySpec, DatasetInfo
from dwconv_jax.errors import UserError

BITS = 8  # pixels of a mask in a byte


def describe_detection(config: DetectionConfig | ConfigDict) -> "DetectionInfo":
    """A data set without its images: it knows its classes, size and the shapes of its batches.

    Args:
      config: the fields of `DetectionConfig`.

    Raises:
      UserError: as for `load_detection`, or `num_train` or `num_classes` is needed.
    """
    config = DetectionConfig.from_config(config)
    num_train, num_classes = config.num_train, config.num_classes
    if config.name != "folder":
        builder = find_builder(config)
        names = class_names_of(config, builder)
        check_num_classes(config, len(names))
        num_train = count_training_examples(config, prepare_builder(config, builder))
    elif num_train is None or num_classes is None:
        raise UserError(
            f"config.dataset.num_train={num_train}, num_classes={num_classes}: of a folder "
            "that is not opened both must be given"
        )
    else:
        names = list(map(str, range(num_classes)))
    info = DetectionInfo(config, tuple(names), CHANNELS, num_train)
    info.categories = dict(enumerate(names))
    return info


class DetectionInfo(DatasetInfo):
    """Images with objects; see `DatasetInfo`. Their batches come in pairs of images."""

    def train_spec(self) -> dict[str, ArraySpec]:
        """See `DatasetInfo`; those on the largest canvas."""
        height, width = max(self._config.canvases, key=math.prod)
        count = self._config.max_objects
        return {
            "image": ArraySpec((height, width, CHANNELS), np.float32),
            "size": ArraySpec((2,), np.int32),
            "boxes": ArraySpec((count, 4), np.float32),
            "classes": ArraySpec((count,), np.int32),
            "masks": ArraySpec((count, height, width // BITS), np.uint8),
        }

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches in the training split; UserError if there is none or a half pair."""
        if batch_size % PAIR:
            raise UserError(
                f"batch_size={batch_size} must be even: losses are normalized over pairs of images"
            )
        return super().steps_per_epoch(batch_size)


def check_num_classes(config: DetectionConfig, count: int) -> None:
    """Raises a UserError if `config.num_classes` is given and not the number of classes."""
    if config.num_classes not in (None, count):
        raise UserError(
            f"config.dataset.num_classes={config.num_classes}: {config.name!r} has {count} "
            "classes; legal are that and None"
        )


def class_names_of(config: DetectionConfig, builder: tfds.core.DatasetBuilder) -> list[str]:
    """The classes of a data set with instance masks; a UserError for any other."""
    features = dict(builder.info.features)
    objects = features.get("objects")
    of_each = objects.feature if isinstance(objects, tfds.features.Sequence) else {}
    label = dict(of_each).get("label")
    if not isinstance(label, tfds.features.ClassLabel) or not isinstance(
        features.get("instances"), tfds.features.Image
    ):
        advice = (
            "; tfds's COCO has boxes but no masks, which the mask heads learn from: use "
            "dataset.name='folder' and COCO's own annotations"
            if builder.name == "coco"
            else ""
        )
        raise UserError(
            f"config.dataset.name={config.name!r} has no instance masks: it needs the features "
            "'image', 'instances' (an image: 0, or i + 1 where the i-th object is seen) and "
            f"'objects' with 'bbox' and 'label', and has {', '.join(features)}{advice}"
        )
    return label.names
