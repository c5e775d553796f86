"""Random samples of a fixed size of the boxes that have an object and of those that have none."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwconv_jax.ops.detection.matching import BACKGROUND


class Sample(NamedTuple):
    """Masks over the `N` boxes."""

    positive: jax.Array  # bool [N]: drawn, and with an object
    negative: jax.Array  # bool [N]: drawn, and background


def sample(key: jax.Array, matched: jax.Array, size: int, max_positive: int) -> Sample:
    """Draws boxes uniformly and without replacement; the key alone decides.

    Where there are more than `max_positive` with an object that many are drawn, else all. Of the
    background as many as are left to `size`, or all: a sample can be smaller than `size`.

    Args:
      key: of `jax.random`.
      matched: int `[N]`, what `match` gives; ignored boxes are not drawn.
      size: boxes of the sample at most.
      max_positive: of these with an object at most.

    Returns:
      The sample, `Sample` of `[N]`.
    """
    number = jax.random.uniform(key, matched.shape)
    positive = _draw(number, matched >= 0, min(max_positive, size), size)
    negative = _draw(number, matched == BACKGROUND, size - positive.sum(), size)
    return Sample(positive, negative)


def _draw(number: jax.Array, among: jax.Array, count: int | jax.Array, most: int) -> jax.Array:
    """The `count` (`most`, or fewer) with the largest numbers, as a mask."""
    best, indices = jax.lax.top_k(jnp.where(among, number, -1), min(most, len(number)))
    drawn = (best >= 0) & (jnp.arange(len(best)) < count)
    return jnp.zeros(among.shape, bool).at[indices].set(drawn)


class Slots(NamedTuple):
    """A sample as a list of fixed length: positives by index, negatives by index, then nothing."""

    indices: jax.Array  # int32 [S], into the N boxes
    positive: jax.Array  # bool [S]
    valid: jax.Array  # bool [S]; the other slots are empty


def to_slots(drawn: Sample, size: int) -> Slots:
    """Lists a sample of at most `size` boxes in min(size, N) slots."""
    rank = 2 * drawn.positive.astype(jnp.int32) + drawn.negative.astype(jnp.int32)
    # Of equal ones, top_k takes the first.
    rank, indices = jax.lax.top_k(rank, min(size, len(rank)))
    return Slots(indices.astype(jnp.int32), rank == 2, rank > 0)
