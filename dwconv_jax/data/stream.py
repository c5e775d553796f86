"""Undecoded examples of a split, in the order of training or evaluation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dwconv_jax.errors import UserError

# TensorFlow only reads data. It would otherwise claim the GPU's memory before JAX does.
tf.config.set_visible_devices([], "GPU")

Example = dict[str, tf.Tensor]

# Decorates functions that make data sets. AutoGraph would look for control flow to rewrite in every
# function they pass on, which takes seconds at each start; there is none.
plain_graphs = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a data set, its images not decoded.

    Attributes:
      examples: {'index': int64, the position; 'label': int64; ...}, in an order that never changes.
      num_examples: how many there are.
      shuffle_buffer: how many of them a shuffle holds.
      read: returns the encoded content of an example, string scalars: its image, or for
        segmentation its image and its label map.
      describe: returns the name of an example for errors.
      unreadable: the indices of examples found to be corrupt.
    """

    examples: tf.data.Dataset
    num_examples: int
    shuffle_buffer: int
    read: Callable[[Example], Any]
    describe: Callable[[Example], str]
    unreadable: set[int] = dataclasses.field(default_factory=set)


def padded_batches(entries: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches of entries, the last one filled with zeros, then batches of zeros without end."""
    zeros = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), entries.element_spec)
    filling = tf.data.Dataset.from_tensors(zeros).repeat()
    return entries.concatenate(filling).batch(batch_size, drop_remainder=True)


def listed_split(paths: Sequence[str], labels: np.ndarray) -> Split:
    """A split of image files.

    Args:
      paths: of the images.
      labels: one entry for each.
    """
    examples = {"index": np.arange(len(paths)), "label": labels, "path": list(paths)}
    return Split(
        examples=tf.data.Dataset.from_tensor_slices(examples),
        num_examples=len(paths),
        shuffle_buffer=len(paths),  # paths are small
        read=lambda example: tf.io.read_file(example["path"]),
        describe=lambda example: example["path"].numpy().decode(),
    )


def described_split(num_examples: int, read: Callable[[Example], Any], **features: Any) -> Split:
    """A split whose examples are not at hand, which is enough to know the shapes of batches.

    Args:
      num_examples: how many there would be.
      read: see `Split`.
      **features: the dtype of each scalar of an example, besides its index.
    """
    example = {name: tf.zeros([], dtype) for name, dtype in {"index": tf.int64, **features}.items()}
    return Split(
        examples=tf.data.Dataset.from_tensors(example).take(0),
        num_examples=num_examples,
        shuffle_buffer=1,
        read=read,
        describe=lambda example: "an example that is not at hand",
    )


@dataclasses.dataclass(frozen=True)
class Source:
    """The training and the evaluation split of a data set, and what their images have in common.

    Attributes:
      train: the training split.
      eval: the evaluation split.
      class_names: the classes, in the order of the labels.
      channels: channels of the images, 1 or 3.
    """

    train: Split
    eval: Split
    class_names: tuple[str, ...]
    channels: int


def local_batch_size(batch_size: int, process_index: int, process_count: int) -> int:
    """One process's share of a batch.

    Raises:
      UserError: the batch cannot be split evenly, or there is no such process.
    """
    if batch_size < 1 or process_count < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size={batch_size} must be a positive multiple of process_count={process_count}"
        )
    if not 0 <= process_index < process_count:
        raise UserError(f"process_index={process_index} must lie in 0..{process_count - 1}")
    return batch_size // process_count


def training_stream(
    split: Split,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> tf.data.Dataset:
    """One process's share of an endless sequence of epochs, from `start_step` on.

    An epoch is a shuffle determined by (seed, epoch), cut to whole batches. Batches that a resumed
    run skips, and the shares of other processes, are dropped before anything is decoded.

    Returns:
      A data set of (seed of the epoch, int64 `[2]`; example).
    """
    steps_per_epoch = split.num_examples // batch_size
    start_epoch, start_step = divmod(start_step, steps_per_epoch)

    def epoch_examples(epoch: tf.Tensor) -> tf.data.Dataset:
        # `shuffle` mixes the graph's seed with its own. Fixing the graph's seed, for the graph of
        # this function only, makes the order independent of the program's `tf.random.set_seed`.
        tf.random.set_seed(1)
        epoch_seed = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)
        order_seed = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64)
        examples = split.examples.shuffle(
            split.shuffle_buffer, seed=order_seed, reshuffle_each_iteration=False
        )
        seeds = tf.data.Dataset.from_tensors(epoch_seed).repeat(steps_per_epoch * batch_size)
        return tf.data.Dataset.zip(seeds, examples)

    stream = tf.data.Dataset.counter(start_epoch).flat_map(epoch_examples)
    return own_share(stream.skip(start_step * batch_size), batch_size, process_index, process_count)


def own_share(
    examples: tf.data.Dataset, batch_size: int, process_index: int, process_count: int
) -> tf.data.Dataset:
    """One process's rows of every batch of a sequence of examples.

    They are contiguous, so that a global batch does not depend on the number of processes.
    """
    share = batch_size // process_count

    def is_own(position: tf.Tensor, _: Any) -> tf.Tensor:
        return position % batch_size // share == process_index

    return examples.enumerate().filter(is_own).map(lambda _, example: example)
