"""What is known of images with a label map each without opening them."""

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dwconv_jax.data.catalog import count_training_examples, find_builder, prepare_builder
from dwconv_jax.data.info import ArraySpec, DatasetInfo
from dwconv_jax.data.segmentation.config import CHANNELS, SegmentationConfig
from dwconv_jax.errors import UserError


def describe_segmentation(config: SegmentationConfig | ConfigDict) -> "SegmentationInfo":
    """A data set without its examples: it knows its classes, size and the shapes of its batches.

    Args:
      config: the fields of `SegmentationConfig`.

    Raises:
      UserError: as for `load_segmentation`, or `num_train` is needed.
    """
    config = SegmentationConfig.from_config(config)
    if config.name != "folder":
        builder, class_names = find_segmentation(config)
        num_train = count_training_examples(config, prepare_builder(config, builder))
    elif config.num_train is None:
        raise UserError(
            "config.dataset.num_train=None: a folder that is not opened needs the number of "
            "training examples"
        )
    else:
        class_names, num_train = name_classes(config, None), config.num_train
    return SegmentationInfo(config, class_names, CHANNELS, num_train)


class SegmentationInfo(DatasetInfo):
    """Images with a label map each; see `DatasetInfo`."""

    def train_spec(self) -> dict[str, ArraySpec]:
        """See `DatasetInfo`."""
        size = self._config.crop_size
        return {
            "image": ArraySpec((size, size, CHANNELS), np.float32),
            "label": ArraySpec((size, size), np.int32),
        }


def find_segmentation(
    config: SegmentationConfig,
) -> tuple[tfds.core.DatasetBuilder, tuple[str, ...]]:
    """The builder, and the names of the classes."""
    builder = find_builder(config)
    features = dict(builder.info.features)
    annotation = features.get("annotation")
    if not isinstance(features.get("image"), tfds.features.Image) or not isinstance(
        annotation, tfds.features.Image
    ):
        raise UserError(
            f"config.dataset.name={config.name!r} is no segmentation: it needs the images 'image' "
            f"and 'annotation', and has {', '.join(features)}"
        )
    known = annotation.names if isinstance(annotation, tfds.features.LabeledImage) else None
    return builder, name_classes(config, known)


def name_classes(config: SegmentationConfig, known: list[str] | None) -> tuple[str, ...]:
    """The names in `config`, or those the data set knows, or numbers."""
    count, given = config.num_classes, tuple(config.class_names)
    if known is None:
        if given:
            return given
        if count is None:
            raise UserError(
                f"config.dataset.num_classes=None: {config.name!r} does not say how many classes "
                "it has; give num_classes or class_names"
            )
        return tuple(map(str, range(count)))
    if count not in (None, len(known)):
        raise UserError(
            f"config.dataset.num_classes={count}: {config.name!r} has {len(known)} classes; legal "
            "are that and None"
        )
    if given and len(given) != len(known):
        raise UserError(
            f"config.dataset.class_names has {len(given)} names, but {config.name!r} has "
            f"{len(known)} classes"
        )
    return given or tuple(known)
