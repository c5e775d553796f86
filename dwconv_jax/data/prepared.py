"""Splits of prepared data sets of tfds, undecoded."""

import tensorflow as tf
import tensorflow_datasets as tfds

from dwconv_jax.data.catalog import first_line
from dwconv_jax.data.config import DatasetConfig, StreamedConfig
from dwconv_jax.data.stream import Example, Split, plain_graphs
from dwconv_jax.errors import UserError

# An example's index is its position in the order of reading, which is that of a plain `tfds.load`.
_READ = tfds.ReadConfig(interleave_cycle_length=16, interleave_block_length=16, try_autocache=False)


def _how_to_prepare(config: DatasetConfig, builder: tfds.core.DatasetBuilder) -> str:
    place = f" --data_dir={config.data_dir}" if config.data_dir else ""
    advice = f"run `tfds build {config.name}{place}` once"
    if builder.name == "fashion_mnist":
        advice += (
            f", or without a network `python -m dwconv_jax.data.builders.fashion_mnist{place}`"
        )
    if manual := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        advice += f"; it needs files that you download by hand: {' '.join(manual.split())}"
    return advice


@plain_graphs
def open_split(
    config: StreamedConfig,
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
      plain: other features to keep.

    Raises:
      UserError: there is no such split.
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
            f"config.dataset.name={config.name!r} is not prepared in {builder.data_dir}: "
            f"{_how_to_prepare(config, builder)}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"config.dataset.{field}={name!r} is no split of {config.name!r} "
            f"({first_line(error)}); legal: {', '.join(builder.info.splits)}, or slices of these"
        ) from error
