"""Sliding kernels with any border and stride, tap by tap.

A tap is a view of the map with one position for each block. The neighborhoods of all positions,
`K` times the map, are never in memory, and neither are they for gradients: a step of the loop over
taps takes its view again.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dwconv_jax.ops.connectivity import Size, Sliding
from dwconv_jax.ops.lowerings import gather
from dwconv_jax.ops.lowerings.convolution import extend
from dwconv_jax.ops.lowerings.per_position import spread

# So few taps, as of a causal convolution, are one fusion of XLA, several times as fast as a loop.
# More of them are a loop over rows of taps.
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
    if not connectivity.shares_keys:
        unseen = connectivity.neighbours(*size) < 0
        weights = jnp.where(unseen[None, ..., None], jnp.zeros((), weights.dtype), weights)
    views = _Views(x, connectivity)
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def add_row(row: jax.Array | int, shares: jax.Array) -> jax.Array:
        """Sums the products of one row of taps, with shares `[B or 1, N or 1, Q, taps, G]`."""
        products = (
            spread(shares[:, :, :, i].astype(wide), channels)
            * views(row * taps + i).reshape(batch, -1, 1, channels).astype(wide)
            for i in range(taps)
        )
        return functools.reduce(jnp.add, products)

    @jax.checkpoint
    def step(total: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + add_row(*row), None

    blocks, outputs, seen = connectivity.block_shape(*size)
    taps = seen if seen <= _MOST_UNROLLED else connectivity.kernel_size[-1]
    if taps == seen:
        total = add_row(0, weights)
    else:
        rows = weights.reshape(*weights.shape[:3], -1, taps, weights.shape[-1])
        total = jnp.zeros((batch, blocks, outputs, channels), wide)
        steps = (np.arange(seen // taps), jnp.moveaxis(rows, 3, 0))
        total, _ = lax.scan(step, total, steps)
    return merge(total.astype(x.dtype), connectivity, tuple(size))


def logits(q: jax.Array, k: jax.Array, connectivity: Sliding) -> jax.Array:
    """Products of queries and keys `[B, *spatial, heads, D]`: `[B, N, heads, Q, K]`."""
    batch, *size, heads, width = q.shape
    q, k = (a.reshape(batch, *size, heads * width) for a in (q, k))
    blocks, _, seen = connectivity.block_shape(*size)
    queries = partition(q, connectivity)
    views = _Views(k, connectivity)
    # Multiplying by a 0/1 matrix sums the channels of a head far faster than reshaping does.
    members = jnp.repeat(jnp.eye(heads, dtype=q.dtype), width, axis=0)

    @jax.checkpoint
    def product(tap: jax.Array) -> jax.Array:
        keys = views(tap).reshape(batch, blocks, 1, heads * width)
        return jnp.dot(queries * keys, members, precision=lax.Precision.HIGHEST)

    return jnp.moveaxis(lax.map(product, np.arange(seen)), (0, 4), (4, 2))


class _Views:
    """What the blocks see at each tap: axes are sliced where offsets are fixed, else gathered."""

    def __init__(self, x: jax.Array, connectivity: Sliding):
        self.kernel_size = connectivity.kernel_size
        self.along: list[Callable[[jax.Array, jax.Array | int], jax.Array]] = []
        for i, axis in enumerate(connectivity.along, start=1):
            size = x.shape[i]
            if axis.at_fixed_offsets:
                x = extend(x, i, axis)
                view = functools.partial(_slice, axis=i, size=size, dilation=axis.dilation)
            else:
                seen = axis.index(size).seen.max(1)  # [n, k]
                view = functools.partial(_take, axis=i, places=np.where(seen < 0, size, seen).T)
            self.along.append(view)
        self.x = x

    def __call__(self, tap: jax.Array | int) -> jax.Array:
        """`[B, *blocks, C]`, zero beyond the map, at a flat tap."""
        x = self.x
        for i, view in enumerate(self.along):
            inner = math.prod(self.kernel_size[i + 1 :])
            x = view(x, tap // inner % self.kernel_size[i])
        return x


def _slice(x: jax.Array, tap: jax.Array | int, *, axis: int, size: int, dilation: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(x, tap * dilation, size, axis)


def _take(x: jax.Array, tap: jax.Array | int, *, axis: int, places: np.ndarray) -> jax.Array:
    return jnp.take(x, jnp.asarray(places)[tap], axis=axis, mode="fill", fill_value=0)
