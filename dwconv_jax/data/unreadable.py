"""Batches with examples that cannot be read: another example of the batch takes their place."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from dwconv_jax.data.image.content import UnreadableError
from dwconv_jax.data.info import Batch
from dwconv_jax.data.stream import Example, Split
from dwconv_jax.errors import UserError

_INTERNALS = re.compile(r"\{\{.*?\}\}\s*|\s*\[Op:.*", re.DOTALL)


def reason(error: tf.errors.OpError | UnreadableError) -> str:
    """Why something cannot be read: the first line of an error, without TensorFlow's internals."""
    message = error.message if isinstance(error, tf.errors.OpError) else str(error)
    return _INTERNALS.sub("", message).split("\n")[0]


def load_entries(
    split: Split, stream: tf.data.Dataset, load: Callable[..., Example]
) -> tf.data.Dataset:
    """Loads the examples of a stream, keeping their order.

    Args:
      split: where the examples come from. If any are in `split.unreadable`, those become zeros,
        and every entry has a flag 'readable'.
      stream: of the arguments of `load`, the last of which is an undecoded example.
      load: returns an entry of a batch.
    """
    entries = stream.map(load, tf.data.AUTOTUNE, deterministic=True)
    if not split.unreadable:
        return entries
    unreadable, spec = tf.constant(sorted(split.unreadable), tf.int64), entries.element_spec

    def load_readable(*arguments: Any) -> Example:
        readable = tf.reduce_all(arguments[-1]["index"] != unreadable)
        entry = tf.cond(
            readable,
            lambda: load(*arguments),
            lambda: tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), spec),
        )
        return {**entry, "readable": readable}

    return stream.map(load_readable, tf.data.AUTOTUNE, deterministic=True)


def stand_in(batch: Batch) -> Batch:
    """Replaces the entries of a batch that are not 'readable' by readable ones.

    Entry i is replaced by the first readable one of i ^ 1, i ^ 2, ...: a neighbor, and the same one
    however many processes share the batch, unless a process's share is mostly unreadable.

    Raises:
      UserError: no entry is readable.
    """
    if "readable" not in batch:
        return batch
    readable = batch["readable"]
    places = np.arange(len(readable))
    if not readable.any():
        raise UserError("not one example of a batch can be read")
    for place in np.flatnonzero(~readable):
        others = (place ^ k for k in range(1, 2 * len(readable)))
        places[place] = next(i for i in others if i < len(readable) and readable[i])
    return tf.nest.map_structure(lambda array: array[places], batch)
