"""What every data set does, whatever its task: batches of a stream, and errors that name files."""

import abc
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from dwconv_jax.data.config import DatasetConfig
from dwconv_jax.data.stream import Example, Source, Split, local_batch_size, training_stream

Batch = dict[str, np.ndarray]


class Dataset(abc.ABC):
    """The training and evaluation split of a data set, as batches.

    Attributes:
        class_names: the classes, in the order of the labels.
        num_classes: how many there are.
        channels: channels of the images, as stored: 1 (grey) or 3.
        num_train: number of training examples.
        num_eval: number of evaluation examples.
    """

    def __init__(self, config: DatasetConfig, source: Source) -> None:
        self._train_split_name = config.train_split
        self._source = source
        self.class_names = source.class_names
        self.num_classes = len(source.class_names)
        self.channels = source.channels
        self.num_train = source.train.num_examples
        self.num_eval = source.eval.num_examples

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches in the training split; ValueError if there is none."""
        if batch_size > self.num_train:
            raise ValueError(
                f"batch_size={batch_size} exceeds the {self.num_train} examples of "
                f"dataset.train_split={self._train_split_name!r}"
            )
        return self.num_train // batch_size

    def train_spec(self) -> dict[str, tf.TensorSpec]:
        """Shape and dtype of what a training batch holds of one example."""
        split, seed = self._source.train, tf.zeros([2], tf.int64)
        entries = split.examples.map(lambda example: self._train_entry(split, example, seed))
        return entries.element_spec

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Iterates over augmented training batches, without end.

        Batch k is a function of (seed, k) alone: `start_step=k` gives what an iterator started at
        0 gives after k batches, bit for bit, without decoding what it skips. An epoch has
        `num_train // batch_size` batches and no example twice. Every process reads the undecoded
        records of a tfds data set, but only its own files of a folder.

        Args:
            batch_size: of all processes together.
            seed: determines the order of the examples and their augmentation.
            start_step: how many batches to skip.
            process_index: which share of every batch to return.
            process_count: how many processes share a batch.

        Returns:
            An iterator of batches of batch_size / process_count examples; the class says what an
            example holds.

        Raises:
            ValueError: an argument is illegal; while iterating: an example cannot be read, or its
                labels are out of range.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        self.steps_per_epoch(batch_size)
        if start_step < 0:
            raise ValueError(f"start_step={start_step} must be at least 0")
        split = self._source.train

        def stream_from(step: int) -> tf.data.Dataset:
            return self._training_stream(batch_size, seed, step, process_index, process_count)

        def load(epoch_seed: tf.Tensor, example: Example) -> Example:
            return self._train_entry(
                split, example, tf.random.fold_in(epoch_seed, example["index"])
            )

        entries = stream_from(start_step).map(load, tf.data.AUTOTUNE, deterministic=True)
        return self._to_host(
            entries.batch(share, drop_remainder=True),
            split,
            lambda step: stream_from(start_step + step).map(lambda _, e: e).take(share),
        )

    def _training_stream(
        self, batch_size: int, seed: int, start_step: int, process_index: int, process_count: int
    ) -> tf.data.Dataset:
        """Undecoded training examples in their order, each with its epoch's seed."""
        return training_stream(
            self._source.train, batch_size, seed, start_step, process_index, process_count
        )

    @abc.abstractmethod
    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over the evaluation split, leaving nothing out; batches have a 'mask'."""

    def picture(self, path: str) -> Batch:
        """An evaluation batch of one picture, a JPEG or PNG file, whose labels are not known.

        Raises:
            ValueError: the file cannot be read as a picture.
        """
        try:
            entry = self._picture_entry(tf.io.read_file(path))
        except tf.errors.OpError as error:
            raise ValueError(f"cannot read {path}: {error.message}") from error
        return tf.nest.map_structure(lambda x: x.numpy()[None], {**entry, "mask": tf.ones([])})

    @abc.abstractmethod
    def _picture_entry(self, encoded: tf.Tensor) -> Example:
        """What an evaluation batch holds of an encoded picture without labels; no mask."""

    @abc.abstractmethod
    def _train_entry(self, split: Split, example: Example, seed: tf.Tensor) -> Example:
        """What a training batch holds of an undecoded example."""

    @abc.abstractmethod
    def _has_legal_labels(self, batch: Batch) -> bool:
        """Whether every label of a batch is a class."""

    @abc.abstractmethod
    def _complaint(self, split: Split, example: Example) -> str | None:
        """What is wrong with an example that can be read; TensorFlow's error if it cannot."""

    def _to_host(
        self,
        batches: tf.data.Dataset,
        split: Split,
        examples_of: Callable[[int], tf.data.Dataset],
    ) -> Iterator[Batch]:
        """Yields checked batches; `examples_of(k)` has the examples of the k-th of them."""
        iterator = batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
        for step in itertools.count():
            try:
                batch = next(iterator, None)
            except tf.errors.OpError as error:
                reason = self._reason(split, examples_of(step))
                raise ValueError(reason or error.message) from error
            if batch is None:
                return
            if not self._has_legal_labels(batch):
                raise ValueError(self._reason(split, examples_of(step)))
            yield batch

    def _reason(self, split: Split, examples: tf.data.Dataset) -> str | None:
        """Finds the example that spoilt a batch: TensorFlow's own error does not name it."""
        for example in examples:
            try:
                complaint = self._complaint(split, example)
            except tf.errors.OpError as error:
                return f"cannot read {split.describe(example)}: {error.message}"
            if complaint:
                return f"{split.describe(example)}: {complaint}"
        return None


def normalise(image: tf.Tensor, config: DatasetConfig) -> tf.Tensor:
    """Pixels in 0..255 to the units that `config.mean` and `config.std` define."""
    mean = tf.constant(config.mean, tf.float32)
    std = tf.constant(config.std, tf.float32)
    return (image / 255 - mean) / std


def to_pixels(image: np.ndarray, config: DatasetConfig) -> np.ndarray:
    """The inverse of `normalise`, uint8."""
    pixels = (image * np.asarray(config.std) + np.asarray(config.mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
