"""Random samples of boxes with an object and of background boxes, of a fixed total size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwconv_jax.ops.detection.matching import BACKGROUND


class Sample(NamedTuple):
    """Masks over the `N` boxes."""

    positive: jax.Array  # bool [N]: drawn, with an object
    negative: jax.Array  # bool [N]: drawn, background


def sample(key: jax.Array, matched: jax.Array, size: int, max_positive: int) -> Sample:
    """Draws boxes uniformly and without replacement.

    Draws up to `max_positive` boxes with an object, then fills up to `size` with background boxes.
    A sample can be smaller than `size`, if there are too few of either.

    Args:
      key: key of `jax.random`; the draw depends on nothing else.
      matched: int `[N]`, the result of `match`; ignored boxes are not drawn.
      size: most boxes to draw.
      max_positive: most boxes with an object to draw.

    Returns:
      The sample, `Sample` of `[N]`.
    """
    number = jax.random.uniform(key, matched.shape)
    positive = _draw(number, matched >= 0, min(max_positive, size), size)
    negative = _draw(number, matched == BACKGROUND, size - positive.sum(), size)
    return Sample(positive, negative)


def _draw(number: jax.Array, among: jax.Array, count: int | jax.Array, most: int) -> jax.Array:
    """A mask of the `count` boxes (at most `most`) among those allowed with the largest numbers."""
    best, indices = jax.lax.top_k(jnp.where(among, number, -1), min(most, len(number)))
    drawn = (best >= 0) & (jnp.arange(len(best)) < count)
    return jnp.zeros(among.shape, bool).at[indices].set(drawn)


class Slots(NamedTuple):
    """A sample as a list of fixed length: positives by index, then negatives, then empty slots."""

    indices: jax.Array  # int32 [S], into the N boxes
    positive: jax.Array  # bool [S]
    valid: jax.Array  # bool [S]; where False, the slot is empty


def to_slots(drawn: Sample, size: int) -> Slots:
    """Lists a sample of at most `size` boxes in `min(size, N)` slots."""
    rank = 2 * drawn.positive.astype(jnp.int32) + drawn.negative.astype(jnp.int32)
    # top_k takes the first of equal ranks.
    rank, indices = jax.lax.top_k(rank, min(size, len(rank)))
    return Slots(indices.astype(jnp.int32), rank == 2, rank > 0)
