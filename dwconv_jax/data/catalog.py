"""Data sets of tfds by name: finding, counting and preparing one. Without TensorFlow."""

import tensorflow_datasets as tfds

from dwconv_jax.data.builders import digits as digits  # registers the builder with tfds
from dwconv_jax.data.builders import furniture_points as furniture_points  # likewise
from dwconv_jax.data.builders import scenes as scenes  # likewise
from dwconv_jax.data.config import DatasetConfig
from dwconv_jax.data.settings import unknown
from dwconv_jax.errors import UserError


def count_training_examples(config: DatasetConfig, builder: tfds.core.DatasetBuilder) -> int:
    """The number of training examples: tfds's count if the data set is prepared, else `num_train`.

    Raises:
      UserError: `num_train` is needed.
    """
    if builder.is_prepared():
        return builder.info.splits[config.train_split].num_examples
    if config.num_train is None:
        raise UserError(
            f"config.dataset.num_train=None: {config.name!r} is not prepared in "
            f"{builder.data_dir}; give the number of training examples"
        )
    return config.num_train


def find_builder(config: DatasetConfig) -> tfds.core.DatasetBuilder:
    """The builder of a tfds data set.

    Raises:
      UserError: there is no data set, configuration or version of the name.
    """
    try:
        return tfds.builder(config.name, data_dir=config.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = ["folder", *tfds.list_builders(with_community_datasets=False)]
        legal = "'folder', or a name in `tfds.list_builders()`"
        raise UserError(
            f"config.dataset.name={config.name!r} {unknown(config.name, known, legal)}"
        ) from error
    except (ValueError, AssertionError) as error:  # its config or version
        raise UserError(f"config.dataset.name={config.name!r}: {first_line(error)}") from error


def prepare_builder(
    config: DatasetConfig, builder: tfds.core.DatasetBuilder
) -> tfds.core.DatasetBuilder:
    """Prepares a data set that needs no download, which a training run should not start by itself.

    Preparing takes TensorFlow.

    Returns:
      The builder, or a new one that sees what another process has prepared.
    """
    if builder.is_prepared() or builder.url_infos or builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return builder
    try:
        builder.download_and_prepare()
    except Exception:
        builder = find_builder(config)
        if not builder.is_prepared():  # by another process at the same time
            raise
    return builder


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).strip().split("\n")[0]
