"""The base class of data sets: batches from a stream, and errors that name files."""

import abc
import logging
from collections.abc import Callable, Collection, Iterator

import tensorflow as tf

from dwconv_jax.data.config import DatasetConfig
from dwconv_jax.data.image.content import UnreadableError
from dwconv_jax.data.info import ArraySpec, Batch, DatasetInfo
from dwconv_jax.data.stream import (
    Example,
    Source,
    Split,
    local_batch_size,
    plain_graphs,
    training_stream,
)
from dwconv_jax.data.unreadable import load_entries, reason, stand_in
from dwconv_jax.errors import UserError

_log = logging.getLogger("dwconv_jax")


class Dataset(DatasetInfo):
    """The training and evaluation split of a data set, as batches.

    Attributes:
      num_eval: number of evaluation examples.
    """

    def __init__(self, config: DatasetConfig, source: Source, *, max_unreadable: int = 0) -> None:
        super().__init__(config, source.class_names, source.channels, source.train.num_examples)
        self._max_unreadable = max_unreadable
        self._source = source
        self.num_eval = source.eval.num_examples

    @plain_graphs
    def train_spec(self) -> dict[str, ArraySpec]:
        """See `DatasetInfo`; those of the pipeline."""
        split, seed = self._source.train, tf.zeros([2], tf.int64)
        entries = split.examples.map(lambda example: self._train_entry(split, example, seed))
        return {
            name: ArraySpec(tuple(spec.shape), spec.dtype.as_numpy_dtype)
            for name, spec in entries.element_spec.items()
        }

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Iterates over augmented training batches without end.

        Batch k is a function of (seed, k) alone: an iterator with `start_step=k` continues, bit for
        bit, one that started at 0 and returned k batches, without decoding what it skips. An epoch
        has `num_train // batch_size` batches and no example twice. Each process reads all undecoded
        records of a tfds data set, but only its own files of a folder.

        Args:
          batch_size: global, over all processes.
          seed: determines the order of the examples and their augmentation.
          start_step: how many batches to skip.
          process_index: which share of each batch to return.
          process_count: how many processes share a batch.

        Returns:
          An iterator of batches of batch_size / process_count examples; see the class for their
          entries. Another example of the batch replaces one that cannot be read.

        Raises:
          UserError: an argument is illegal; while iterating, if more than `config.max_unreadable`
            examples cannot be read, or labels are out of range.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        self.steps_per_epoch(batch_size)
        if start_step < 0:
            raise UserError(f"start_step={start_step} must be at least 0")
        split = self._source.train

        def stream_from(step: int) -> tf.data.Dataset:
            return self._training_stream(batch_size, seed, step, process_index, process_count)

        def load(epoch_seed: tf.Tensor, example: Example) -> Example:
            return self._train_entry(
                split, example, tf.random.fold_in(epoch_seed, example["index"])
            )

        def batches_from(step: int) -> tf.data.Dataset:
            entries = load_entries(split, stream_from(start_step + step), load)
            return entries.batch(share, drop_remainder=True)

        return self._to_host(
            batches_from,
            split,
            lambda step: stream_from(start_step + step).map(lambda _, e: e).take(share),
        )

    def _training_stream(
        self, batch_size: int, seed: int, start_step: int, process_index: int, process_count: int
    ) -> tf.data.Dataset:
        """Undecoded training examples in order, each with the seed of its epoch."""
        return training_stream(
            self._source.train, batch_size, seed, start_step, process_index, process_count
        )

    @abc.abstractmethod
    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over the whole evaluation split; batches have a 'mask'."""

    def name_eval(self, positions: Collection[int]) -> dict[int, str]:
        """Names examples of the evaluation split, such as by their files.

        Args:
          positions: in the order of `eval_batches` of one process.
        """
        split, wanted = self._source.eval, tf.constant(sorted(positions), tf.int64)
        if not positions:
            return {}
        examples = split.examples.filter(lambda e: tf.reduce_any(e["index"] == wanted))
        return {int(example["index"]): split.describe(example) for example in examples}

    @abc.abstractmethod
    def _train_entry(self, split: Split, example: Example, seed: tf.Tensor) -> Example:
        """The entries of an undecoded example in a training batch."""

    @abc.abstractmethod
    def _has_legal_labels(self, batch: Batch) -> bool:
        """Whether every label of a batch is a class."""

    @abc.abstractmethod
    def _complaint(self, split: Split, example: Example) -> str | None:
        """What is wrong with an example; OpError or UnreadableError if it cannot be read."""

    def _to_host(
        self,
        batches_from: Callable[[int], tf.data.Dataset],
        split: Split,
        examples_of: Callable[[int], tf.data.Dataset],
        *,
        needs_all: bool = False,
    ) -> Iterator[Batch]:
        """Yields checked batches.

        Args:
          batches_from: returns the batches from the k-th on, without `split.unreadable`.
          split: where they come from.
          examples_of: returns the undecoded examples of the k-th batch.
          needs_all: whether every example must be readable.
        """
        iterator: Iterator[Batch | None] | None = None
        step = 0
        while True:
            if iterator is None:  # at the start, and after a failure
                batches = plain_graphs(batches_from)(step)
                iterator = batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
            try:
                batch = next(iterator, None)
            except tf.errors.OpError as error:
                most = 0 if needs_all else self._max_unreadable
                self._find_unreadable(split, examples_of(step), most, error)
                iterator = None
                continue
            if batch is None:
                return
            if "mask" not in batch:
                batch = stand_in(batch)
            batch.pop("readable", None)
            if not self._has_legal_labels(batch):
                raise UserError(self._reason(split, examples_of(step)))
            yield batch
            step += 1

    def _find_unreadable(
        self, split: Split, examples: tf.data.Dataset, most: int, error: tf.errors.OpError
    ) -> None:
        """Adds the unreadable examples of a batch to `split.unreadable`; UserError if too many."""
        before = len(split.unreadable)
        for example in examples:
            name = split.describe(example)
            try:
                if complaint := self._complaint(split, example):
                    raise UserError(f"{name}: {complaint}") from error
            except (tf.errors.OpError, UnreadableError) as failure:
                split.unreadable.add(int(example["index"]))
                count = len(split.unreadable)
                if count > most:
                    suffix = (
                        f"; these are {count}, more than config.dataset.max_unreadable={most}"
                        if most
                        else ""
                    )
                    raise UserError(f"cannot read {name}: {reason(failure)}{suffix}") from failure
                _log.warning(
                    "cannot read %s: %s; skipping it (%d of at most %d)",
                    name, reason(failure), count, most,
                )  # fmt: skip
        if len(split.unreadable) == before:
            first = next((split.describe(example) for example in examples), "an example")
            raise UserError(f"{first}, or another of its batch: {reason(error)}") from error

    def _reason(self, split: Split, examples: tf.data.Dataset) -> str | None:
        """What is wrong with a batch; names the example, which TensorFlow's error does not."""
        for example in examples:
            try:
                complaint = self._complaint(split, example)
            except (tf.errors.OpError, UnreadableError) as error:
                return f"cannot read {split.describe(example)}: {reason(error)}"
            if complaint:
                return f"{split.describe(example)}: {complaint}"
        return None
