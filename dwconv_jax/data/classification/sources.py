"""Images with labels: from tfds, from a folder, or from CSV lists."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.classification.csv_list import open_csv
from dwconv_jax.data.classification.folder import open_folder
from dwconv_jax.data.prepared import (
    count_training_examples,
    find_builder,
    open_split,
    prepare_builder,
)
from dwconv_jax.data.stream import Source, Split, described_split
from dwconv_jax.errors import UserError

_LISTED = {"folder": open_folder, "csv": open_csv}


def open_source(config: ClassificationConfig) -> Source:
    """Opens both splits; a tfds data set is prepared first if that takes no download.

    Raises:
      UserError: there is no such data set or split, it is not an image classification, or `mean` or
        `std` does not fit its channels.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    if config.name in _LISTED:
        return _LISTED[config.name](config)
    builder = find_builder(config)
    image, label = _features(config, builder)
    builder = prepare_builder(config, builder)

    def split(field: str) -> Split:
        return open_split(config, field, builder, encoded=("image",), plain=("label",))

    return Source(
        split("train_split"), split("eval_split"), tuple(label.names), channels=image.shape[-1]
    )


def describe_source(config: ClassificationConfig) -> Source:
    """The source that `open_source` would open, without examples; tfds need not be prepared.

    Raises:
      UserError: as `open_source`, or `num_train` is needed.
    """
    if config.name in _LISTED:
        return _LISTED[config.name](config)
    builder = find_builder(config)
    image, label = _features(config, builder)
    num_train = count_training_examples(config, prepare_builder(config, builder))
    split = described_split(num_train, lambda e: e["image"], label=tf.int64, image=tf.string)
    return Source(split, split, tuple(label.names), channels=image.shape[-1])


def _features(
    config: ClassificationConfig, builder: tfds.core.DatasetBuilder
) -> tuple[tfds.features.Image, tfds.features.ClassLabel]:
    image, label = (dict(builder.info.features).get(key) for key in ("image", "label"))
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(
            f"config.dataset.name={config.name!r} is not an image classification: it needs the "
            "features 'image' and 'label' (a ClassLabel), and has "
            f"{', '.join(builder.info.features)}"
        )
    dtype, channels = np.dtype(image.np_dtype), image.shape[-1]
    if dtype != np.uint8 or channels not in (1, 3):
        raise UserError(
            f"config.dataset.name={config.name!r} has images of {dtype} {tuple(image.shape)}: "
            "legal are uint8 with 1 or 3 channels"
        )
    config.check_channels(channels)
    return image, label
