"""Image classification: a configured data set as iterators of NumPy batches."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from dwconv_jax.data import augment
from dwconv_jax.data.config import ClassificationConfig, check
from dwconv_jax.data.folder import open_folder
from dwconv_jax.data.prepared import open_prepared
from dwconv_jax.data.stream import Example, Source, Split, local_batch_size, training_stream

Batch = dict[str, np.ndarray]


def load_classification(config: ClassificationConfig) -> "ClassificationDataset":
    """Opens a data set; whatever is wrong with the configuration or the files shows here.

    A tfds data set that needs no download is prepared on the spot; others must be prepared already.

    Args:
        config: see `ClassificationConfig`.

    Raises:
        ValueError: a field of `config` is missing or illegal; the message names it.
        FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    check(config)
    source = open_folder(config) if config.name == "folder" else open_prepared(config)
    return ClassificationDataset(config, source)


class ClassificationDataset:
    """The training and evaluation split of a data set, as batches.

    Attributes:
        class_names: the classes, in the order of the labels.
        num_classes: how many there are.
        channels: channels of the images, as stored: 1 (grey) or 3.
        num_train: number of training examples.
        num_eval: number of evaluation examples.
    """

    def __init__(self, config: ClassificationConfig, source: Source) -> None:
        self._config = config
        self._source = source
        self.class_names = source.class_names
        self.num_classes = len(source.class_names)
        self.channels = source.channels
        self.num_train = source.train.num_examples
        self.num_eval = source.eval.num_examples

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
            An iterator of {'image': float32 `[b, S, S, channels]`, normalised; 'label': int32
            `[b]`}, with b = batch_size / process_count.

        Raises:
            ValueError: an argument is illegal; while iterating: an image cannot be read, or a
                label is out of range.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        if batch_size > self.num_train:
            raise ValueError(
                f"batch_size={batch_size} exceeds the {self.num_train} examples of "
                f"dataset.train_split={self._config.train_split!r}"
            )
        if start_step < 0:
            raise ValueError(f"start_step={start_step} must be at least 0")
        split = self._source.train

        def stream_from(step: int) -> tf.data.Dataset:
            return training_stream(split, batch_size, seed, step, process_index, process_count)

        def load(epoch_seed: tf.Tensor, example: Example) -> Example:
            image = augment.train_image(
                split.read(example),
                tf.random.fold_in(epoch_seed, example["index"]),
                augment.RECIPES[self._config.augment],
                self._config.image_size,
                self.channels,
            )
            return self._entry(image, example)

        images = stream_from(start_step).map(load, tf.data.AUTOTUNE, deterministic=True)
        batches = images.batch(share, drop_remainder=True)
        return self._to_host(
            batches, split, lambda step: stream_from(start_step + step).map(lambda _, e: e)
        )

    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over the evaluation split, leaving nothing out.

        Every process gets ceil(num_eval / batch_size) batches, filled up with zeros.

        Args:
            batch_size: of all processes together.
            process_index: which share of every batch to return.
            process_count: how many processes share a batch.

        Returns:
            An iterator of {'image': float32 `[b, S, S, channels]`, 'label': int32 `[b]`,
            'mask': float32 `[b]`, 1 for an example and 0 for filling}.

        Raises:
            ValueError: as for `train_batches`.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        split = self._source.eval

        def examples_from(step: int) -> tf.data.Dataset:
            return split.examples.shard(process_count, process_index).skip(step * share)

        def load(example: Example) -> Example:
            image = augment.eval_image(
                split.read(example),
                self._config.eval_resize,
                self._config.image_size,
                self.channels,
            )
            return {**self._entry(image, example), "mask": tf.ones([])}

        images = examples_from(0).map(load, tf.data.AUTOTUNE, deterministic=True)
        zeros = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), images.element_spec)
        filling = tf.data.Dataset.from_tensors(zeros).repeat()
        num_batches = math.ceil(self.num_eval / batch_size)
        batches = images.concatenate(filling).batch(share, drop_remainder=True).take(num_batches)
        return self._to_host(batches, split, examples_from)

    def _entry(self, image: tf.Tensor, example: Example) -> Example:
        mean = tf.constant(self._config.mean, tf.float32)
        std = tf.constant(self._config.std, tf.float32)
        return {"image": (image / 255 - mean) / std, "label": tf.cast(example["label"], tf.int32)}

    def _to_host(
        self,
        batches: tf.data.Dataset,
        split: Split,
        examples_from: Callable[[int], tf.data.Dataset],
    ) -> Iterator[Batch]:
        """Yields checked batches; `examples_from(k)` are the examples from the k-th of them on."""
        iterator = batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
        for step in itertools.count():
            try:
                batch = next(iterator, None)
            except tf.errors.OpError as error:
                share = batches.element_spec["label"].shape[0]
                raise ValueError(
                    self._reason(split, examples_from(step).take(share)) or error.message
                ) from error
            if batch is None:
                return
            label = batch["label"]
            if label.min() < 0 or label.max() >= self.num_classes:
                raise ValueError(
                    f"dataset.name={self._config.name!r} has labels {label.min()}..{label.max()} "
                    f"in a batch; legal are 0..{self.num_classes - 1}"
                )
            yield batch

    def _reason(self, split: Split, examples: tf.data.Dataset) -> str | None:
        """Finds the example that spoilt a batch: TensorFlow's own error does not name it."""
        for example in examples:
            try:
                augment.decode(split.read(example), self.channels)
            except tf.errors.OpError as error:
                return f"cannot read {split.describe(example)}: {error.message}"
        return None
