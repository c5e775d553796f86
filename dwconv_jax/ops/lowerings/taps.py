"""Sliding kernels with any border and stride, tap by tap.

A tap is a view of the map with one position for each block. The neighborhoods of all positions,
`K` times the map, are never in memory, and neither are they for gradients: a step of the loop over
taps takes its view again.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dwconv_jax.ops.connectivity import Size, Sliding
from dwconv_jax.ops.lowerings import gather
from dwconv_jax.ops.lowerings.convolution import extend
from dwconv_jax.ops.lowerings.per_position import spread

# So few taps, as of a causal convolution, are one fusion of XLA, several times as fast as a loop.
_MOST_UNROLLED = 9


def partition(x: jax.Array, connectivity: Sliding) -> jax.Array:
    """`[B, *spatial, C]` to `[B, N, Q, C]`; with stride 1 every position is a block."""
    if max(connectivity.stride) > 1:
        return gather.partition(x, connectivity)
    return x.reshape(x.shape[0], -1, 1, x.shape[-1])


def merge(blocks: jax.Array, connectivity: Sliding, size: Size) -> jax.Array:
    """The inverse of `partition`: `[B, N, Q, C]` to `[B, *size, C]`."""
    if max(connectivity.stride) > 1:
        return gather.merge(blocks, connectivity, size)
    return blocks.reshape(blocks.shape[0], *size, blocks.shape[-1])


def mix(x: jax.Array, weights: jax.Array, connectivity: Sliding) -> jax.Array:
    """Mixes `x` `[B, *spatial, C]` by `weights` `[B or 1, N or 1, Q, K, G]`."""
    batch, *size, channels = x.shape
    hidden = connectivity.hidden(*size)
    if hidden is not None and hidden.shape[1] > 1:  # keys that only some queries of a block see
        weights = jnp.where(hidden[None, ..., None], jnp.zeros((), weights.dtype), weights)
    views = _Views(x, connectivity)
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def product(tap: jax.Array | int, shares: jax.Array) -> jax.Array:
        seen = views(tap).reshape(batch, -1, 1, channels)
        return spread(shares.astype(wide), channels) * seen.astype(wide)

    @jax.checkpoint
    def add(total: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + product(*step), None

    blocks, outputs, seen = connectivity.block_shape(*size)
    if seen <= _MOST_UNROLLED:
        products = (product(tap, weights[:, :, :, tap]) for tap in range(seen))
        total = functools.reduce(jnp.add, products)
    else:
        total = jnp.zeros((batch, blocks, outputs, channels), wide)
        steps = (np.arange(seen), jnp.moveaxis(weights, 3, 0))
        total, _ = lax.scan(add, total, steps)
    return merge(total.astype(x.dtype), connectivity, tuple(size))


def logits(q: jax.Array, k: jax.Array, connectivity: Sliding) -> jax.Array:
    """Products of queries and keys `[B, *spatial, heads, D]`: `[B, N, heads, Q, K]`."""
    batch, *size, heads, width = q.shape
    q, k = (a.reshape(batch, *size, heads * width) for a in (q, k))
    blocks, outputs, seen = connectivity.block_shape(*size)
    queries = partition(q, connectivity).reshape(batch, blocks, outputs, heads, width)
    views = _Views(k, connectivity)

    @jax.checkpoint
    def product(tap: jax.Array) -> jax.Array:
        keys = views(tap).reshape(batch, blocks, 1, heads, width)
        return (queries * keys).sum(-1)

    return jnp.moveaxis(lax.map(product, np.arange(seen)), (0, 4), (4, 2))


class _Views:
    """What the blocks see at each tap."""

    def __init__(self, x: jax.Array, connectivity: Sliding):
        size = x.shape[1:-1]
        self.kernel_size = connectivity.kernel_size
        self.places: list[tuple[str, int, np.ndarray | int]] = []
        for i, axis in enumerate(connectivity.along):
            if axis.at_fixed_offsets:
                x = extend(x, i + 1, axis)
                self.places.append(("slice", size[i], axis.dilation))
            else:
                seen = axis.index(size[i]).seen.max(1)  # [n, k]
                self.places.append(("take", size[i], np.where(seen < 0, size[i], seen).T))
        self.x = x

    def __call__(self, tap: jax.Array | int) -> jax.Array:
        """`[B, *blocks, C]`, zero beyond the map, at a flat tap."""
        x = self.x
        for i, (kind, size, where) in enumerate(self.places):
            inner = math.prod(self.kernel_size[i + 1 :])
            own = tap // inner % self.kernel_size[i]
            if kind == "slice":
                x = lax.dynamic_slice_in_dim(x, own * where, size, i + 1)
            else:
                x = jnp.take(x, jnp.asarray(where)[own], axis=i + 1, mode="fill", fill_value=0)
        return x
