"""Windows, grids and the whole map: cut the map into blocks and multiply matrices."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.ops.connectivity.blocks import Blocks, Cut


def partition(x: jax.Array, connectivity: Blocks) -> jax.Array:
    """`[B, *spatial, C]` to blocks `[B, N, Q, C]`, zero-padded and rolled as they ask."""
    batch, *size, channels = x.shape
    cuts = connectivity.cuts(*size)
    right = [(0, cut.num * cut.length - n) for cut, n in zip(cuts, size, strict=True)]
    x = _roll(jnp.pad(x, ((0, 0), *right, (0, 0))), [-cut.shift for cut in cuts])
    split = [n for c in cuts for n in ((c.length, c.num) if c.strided else (c.num, c.length))]
    x = x.reshape(batch, *split, channels).transpose(_blocks_first(cuts))
    return x.reshape(batch, math.prod(c.num for c in cuts), -1, channels)


def merge(blocks: jax.Array, connectivity: Blocks, size: tuple[int, ...]) -> jax.Array:
    """The inverse of `partition`: `[B, N, Q, C]` to `[B, *size, C]`, cropped."""
    batch, *_, channels = blocks.shape
    cuts = connectivity.cuts(*size)
    x = blocks.reshape(batch, *(c.num for c in cuts), *(c.length for c in cuts), channels)
    x = x.transpose(np.argsort(_blocks_first(cuts)))
    x = x.reshape(batch, *(c.num * c.length for c in cuts), channels)
    x = _roll(x, [cut.shift for cut in cuts])
    return x[(slice(None), *(slice(n) for n in size))]


def _blocks_first(cuts: list[Cut]) -> list[int]:
    """The order of axes that moves those of blocks before those of positions in a block."""
    blocks = [1 + 2 * i + cut.strided for i, cut in enumerate(cuts)]
    inside = [2 + 2 * i - cut.strided for i, cut in enumerate(cuts)]
    return [0, *blocks, *inside, 1 + 2 * len(cuts)]


def _roll(x: jax.Array, shifts: list[int]) -> jax.Array:
    return jnp.roll(x, shifts, axis=range(1, len(shifts) + 1)) if any(shifts) else x


def mix(x: jax.Array, weights: jax.Array, connectivity: Blocks) -> jax.Array:
    """Mixes each block of `x` `[B, *spatial, C]` by `weights` `[B or 1, N or 1, Q, K, G]`."""
    size, channels = x.shape[1:-1], x.shape[-1]
    groups = weights.shape[-1]
    seen = partition(x, connectivity)
    seen = seen.reshape(*seen.shape[:3], groups, channels // groups)
    # An axis of length 1 is summed away by name, so that the product stays one matrix product.
    b, n = ("" if size == 1 else axis for size, axis in zip(weights.shape[:2], "bn", strict=True))
    squeezed = weights.reshape(
        *(size for size in weights.shape[:2] if size != 1), *weights.shape[2:]
    )
    # In this order: with the weights first XLA:CPU multiplies transposed matrices, half as fast.
    mixed = jnp.einsum(f"bnkgd,{b}{n}qkg->bnqgd", seen, squeezed, preferred_element_type=seen.dtype)
    return merge(mixed.reshape(*mixed.shape[:3], channels), connectivity, size)


def logits(q: jax.Array, k: jax.Array, connectivity: Blocks) -> jax.Array:
    """Products of queries and keys `[B, *spatial, heads, D]`: `[B, N, heads, Q, K]`."""
    heads = q.shape[-2:]
    q, k = (partition(a.reshape(*a.shape[:-2], -1), connectivity) for a in (q, k))
    queries, keys = (a.reshape(*a.shape[:3], *heads) for a in (q, k))
    return jnp.einsum("bnqgd,bnkgd->bngqk", queries, keys)
