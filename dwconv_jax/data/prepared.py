"""Data sets that tfds knows: finding one, preparing it, reading its splits undecoded."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dwconv_jax.data.classification.config import (
    ClassificationConfig,
    DatasetConfig,
    ShuffledConfig,
    check_channels,
    unknown,
)
from dwconv_jax.data.stream import Example, Source, Split, described_split, plain_graphs
from dwconv_jax.errors import UserError

# An example's index is its position in this order of reading, so the order is spelt out; it is the
# one of a plain `tfds.load`.
_READ = tfds.ReadConfig(interleave_cycle_length=16, interleave_block_length=16, try_autocache=False)


def open_prepared(config: ClassificationConfig) -> Source:
    """Opens a tfds data set, preparing it first if that takes no download.

    Raises:
        ValueError: there is no such data set or split, it is no image classification, or `mean` or
            `std` does not fit its channels.
        FileNotFoundError: the data set is not prepared; the message says how to.
    """
    builder = find_builder(config)
    image, label = _features(config, builder)
    check_channels(config, image.shape[-1])
    builder = prepare_builder(config, builder)
    return Source(
        train=open_split(config, "train_split", builder, encoded=("image",), plain=("label",)),
        eval=open_split(config, "eval_split", builder, encoded=("image",), plain=("label",)),
        class_names=tuple(label.names),
        channels=image.shape[-1],
    )


def describe_prepared(config: ClassificationConfig) -> Source:
    """What `open_prepared` would open, without examples: the data set need not be prepared.

    Raises:
        ValueError: as `open_prepared`; or `num_train` is needed.
    """
    builder = find_builder(config)
    image, label = _features(config, builder)
    check_channels(config, image.shape[-1])
    num_train = count_training_examples(config, prepare_builder(config, builder))
    split = described_split(num_train, lambda e: e["image"], label=tf.int64, image=tf.string)
    return Source(split, split, tuple(label.names), image.shape[-1])


def count_training_examples(config: DatasetConfig, builder: tfds.core.DatasetBuilder) -> int:
    """As tfds counts them where the data set is prepared, and as `num_train` says elsewhere."""
    if builder.is_prepared():
        return builder.info.splits[config.train_split].num_examples
    if config.num_train is None:
        raise UserError(
            f"dataset.num_train=None: {config.name!r} is not prepared in {builder.data_dir}, so "
            "that the number of training examples must be given"
        )
    return config.num_train


def find_builder(config: DatasetConfig) -> tfds.core.DatasetBuilder:
    """The builder that `config.name` names; ValueError if there is none."""
    try:
        return tfds.builder(config.name, data_dir=config.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = ["folder", *tfds.list_builders(with_community_datasets=False)]
        message = unknown("name", config.name, known, list_known=False)
        raise UserError(
            f"{message}; legal: 'folder', or a name in `tfds.list_builders()`"
        ) from error
    except (ValueError, AssertionError) as error:  # its config or version
        raise UserError(f"dataset.name={config.name!r}: {_first_line(error)}") from error


def _features(
    config: ClassificationConfig, builder: tfds.core.DatasetBuilder
) -> tuple[tfds.features.Image, tfds.features.ClassLabel]:
    image, label = (dict(builder.info.features).get(key) for key in ("image", "label"))
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise UserError(
            f"dataset.name={config.name!r} is not an image classification: it needs the features "
            f"'image' and 'label' (a ClassLabel), and has {', '.join(builder.info.features)}"
        )
    dtype = np.dtype(image.np_dtype)
    if dtype != np.uint8 or image.shape[-1] not in (1, 3):
        raise UserError(
            f"dataset.name={config.name!r} has images of {dtype} {tuple(image.shape)}: "
            f"legal are uint8 with 1 or 3 channels"
        )
    return image, label


def prepare_builder(
    config: DatasetConfig, builder: tfds.core.DatasetBuilder
) -> tfds.core.DatasetBuilder:
    """Prepares what is at hand; a training run should not start a download of its own accord."""
    if builder.is_prepared() or builder.url_infos or builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return builder
    try:
        builder.download_and_prepare()
    except Exception:
        builder = find_builder(config)
        if not builder.is_prepared():  # by another process, at the same time
            raise
    return builder


def _how_to_prepare(config: DatasetConfig, builder: tfds.core.DatasetBuilder) -> str:
    place = f" --data_dir={config.data_dir}" if config.data_dir else ""
    advice = f"run `tfds build {config.name}{place}` once"
    if builder.name == "fashion_mnist":
        advice += (
            f", or without a network `python -m dwconv_jax.data.builders.fashion_mnist{place}`"
        )
    if manual := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        advice += f"; it needs files fetched by hand: {' '.join(manual.split())}"
    return advice


@plain_graphs
def open_split(
    config: ShuffledConfig,
    field: str,
    builder: tfds.core.DatasetBuilder,
    *,
    encoded: tuple[str, ...],
    plain: tuple[str, ...] = (),
) -> Split:
    """The split that a field of `config` names.

    Args:
        config: names the data set and the split.
        field: "train_split" or "eval_split".
        builder: of the data set.
        encoded: image features, left undecoded; `Split.read` returns the feature `image`.
        plain: other features that examples keep.

    Raises:
        ValueError: there is no such split.
        FileNotFoundError: the data set is not prepared; the message says how to.
    """
    name = getattr(config, field)
    examples = read_split(config, field, builder, encoded=encoded)
    num_examples = int(examples.cardinality())

    def select(index: tf.Tensor, example: Example) -> Example:
        return {"index": index} | {feature: example[feature] for feature in (*plain, *encoded)}

    examples = examples.enumerate().map(select, tf.data.AUTOTUNE, deterministic=True)
    if field == "train_split" and config.shuffle_buffer >= num_examples:
        examples = examples.cache()
    return Split(
        examples=examples,
        num_examples=num_examples,
        shuffle_buffer=config.shuffle_buffer,
        read=lambda example: example["image"],
        describe=lambda example: f"example {example['index']} of {config.name!r}, split {name!r}",
    )


def read_split(
    config: DatasetConfig,
    field: str,
    builder: tfds.core.DatasetBuilder,
    *,
    encoded: tuple[str, ...],
) -> tf.data.Dataset:
    """All features of the split that a field of `config` names; see `open_split`."""
    name = getattr(config, field)
    try:
        return builder.as_dataset(
            split=name,
            decoders={feature: tfds.decode.SkipDecoding() for feature in encoded},
            read_config=_READ,
        )
    except AssertionError as error:
        raise FileNotFoundError(
            f"dataset.name={config.name!r} is not prepared in {builder.data_dir}: "
            f"{_how_to_prepare(config, builder)}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"dataset.{field}={name!r} is no split of {config.name!r} ({_first_line(error)}); "
            f"legal: {', '.join(builder.info.splits)}, or slices of these"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
