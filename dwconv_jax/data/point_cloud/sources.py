"""Point clouds from tfds, or from HDF5 files."""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dwconv_jax.data.catalog import count_training_examples, find_builder, prepare_builder
from dwconv_jax.data.point_cloud.config import PointCloudConfig
from dwconv_jax.data.point_cloud.h5 import class_names_of, open_h5
from dwconv_jax.data.prepared import open_split
from dwconv_jax.data.stream import Example, Source, Split, described_split
from dwconv_jax.errors import UserError

# Of the pictures that a model paints.
_CHANNELS = 3


def open_source(config: PointCloudConfig) -> Source:
    """Opens both splits; `Split.read` returns a cloud, float32 `[n, 3]`.

    Raises:
      UserError: there is no such data set or split, or it is malformed or no set of clouds.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    if config.name == "h5":
        return open_h5(config, _CHANNELS)
    builder, class_names = _find_clouds(config)
    builder = prepare_builder(config, builder)

    def split(field: str) -> Split:
        opened = open_split(config, field, builder, encoded=(), plain=("label", "points"))
        return dataclasses.replace(opened, read=_points_of)

    return Source(split("train_split"), split("eval_split"), class_names, _CHANNELS)


def describe_source(config: PointCloudConfig) -> Source:
    """The source that `open_source` would open, without examples or files.

    Raises:
      UserError: as `open_source`, or `num_train` or `class_names` is needed.
    """
    if config.name == "h5":
        class_names, num_train = class_names_of(config), config.num_train
        if num_train is None:
            raise UserError(
                "config.dataset.num_train=None: files that are not opened need the number of "
                "training examples"
            )
    else:
        builder, class_names = _find_clouds(config)
        num_train = count_training_examples(config, builder)
    split = described_split(num_train, lambda _: tf.zeros([1, 3]), label=tf.int64)
    return Source(split, split, class_names, _CHANNELS)


def _points_of(example: Example) -> tf.Tensor:
    return example["points"]


def _find_clouds(
    config: PointCloudConfig,
) -> tuple[tfds.core.DatasetBuilder, tuple[str, ...]]:
    """The builder, and the names of the classes."""
    builder = find_builder(config)
    features = dict(builder.info.features)
    points, label = features.get("points"), features.get("label")
    if not (
        isinstance(points, tfds.features.Tensor)
        and isinstance(label, tfds.features.ClassLabel)
        and points.np_dtype == np.float32
        and len(points.shape) == 2
        and points.shape[1] == 3
    ):
        raise UserError(
            f"config.dataset.name={config.name!r} is no set of point clouds: it needs 'points', a "
            "float32 Tensor [n, 3], and 'label', a ClassLabel, and has "
            + ", ".join(f"{name}: {feature}" for name, feature in features.items())
        )
    return builder, tuple(label.names)
