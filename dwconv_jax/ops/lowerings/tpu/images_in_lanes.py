"""Sliding weights that differ at every position, in the form that suits XLA:TPU best.

The lanes hold images and the sublanes groups, so that the members of a group, which share a weight,
are on an outer axis: maps are `[H, W, C / G, G, B]` and weights `[K, H, W, G, B]`. Other platforms
repeat a group's weight for its channels, which would move data for every tap on a TPU.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.connectivity import Pair, Sliding


def mix(x: jax.Array, weights: jax.Array, *, connectivity: Sliding) -> jax.Array:
    """`per_position`: mixes `[B, H, W, C]` by weights `[B or 1, H, W, K, G]`."""
    padded = _pad(_enter(x, weights.shape[-1]), connectivity.padding)
    taps = weights.transpose(3, 1, 2, 4, 0)
    size = (x.shape[1], x.shape[2])

    def product(tap: int, row: int, column: int) -> jax.Array:
        return _window(padded, row, column, size) * wide(taps[tap])[:, :, None]

    return _leave(_sum_over_taps(product, connectivity), x)


def seen_by(g: jax.Array, weights: jax.Array, *, connectivity: Sliding) -> jax.Array:
    """`per_position.seen_by`: the adjoint of `mix` in `x`."""
    ph, pw = connectivity.padding
    padded = _pad(_enter(g, weights.shape[-1]), connectivity.padding)
    taps = [_pad(tap, connectivity.padding) for tap in weights.transpose(3, 1, 2, 4, 0)]
    size = (g.shape[1], g.shape[2])

    def product(tap: int, row: int, column: int) -> jax.Array:
        window = functools.partial(_window, row=2 * ph - row, column=2 * pw - column, size=size)
        return window(padded) * window(taps[tap])[:, :, None]

    return _leave(_sum_over_taps(product, connectivity), g)


def tap_products(x: jax.Array, g: jax.Array, *, groups: int, connectivity: Sliding) -> jax.Array:
    """`per_position.tap_products`: the adjoint of `mix` in the weights, `[B, H, W, K, G]`."""
    padded = _pad(_enter(x, groups), connectivity.padding)
    wide_g, size = wide(_enter(g, groups)), (x.shape[1], x.shape[2])
    products = [
        (_window(padded, row, column, size) * wide_g).sum(2).astype(x.dtype)
        for _, row, column in _taps(connectivity)
    ]
    return jnp.stack(products).transpose(4, 1, 2, 0, 3)


def _taps(connectivity: Sliding) -> list[tuple[int, int, int]]:
    """The taps, each with its row and column offset in the padded map."""
    (kh, kw), (dh, dw) = connectivity.kernel_size, connectivity.dilation
    return [(i * kw + j, i * dh, j * dw) for i in range(kh) for j in range(kw)]


def _sum_over_taps(
    product: Callable[[int, int, int], jax.Array], connectivity: Sliding
) -> jax.Array:
    """Sums in one fusion per kernel row: for all taps at once, XLA would copy what they see."""
    taps, width = _taps(connectivity), connectivity.kernel_size[1]
    total: jax.Array | int = 0
    for first in range(0, len(taps), width):
        row = functools.reduce(jnp.add, (product(*tap) for tap in taps[first : first + width]))
        total = lax.optimization_barrier(total + row)
    return jnp.asarray(total)


def _enter(x: jax.Array, groups: int) -> jax.Array:
    """`[B, H, W, C]` to `[H, W, C / G, G, B]`."""
    batch, height, width, channels = x.shape
    members = x.reshape(batch, height, width, groups, channels // groups)
    return members.transpose(1, 2, 4, 3, 0)


def _leave(y: jax.Array, like: jax.Array) -> jax.Array:
    """Inverts `_enter`, in the shape and dtype of `like`."""
    return y.transpose(4, 0, 1, 3, 2).reshape(like.shape).astype(like.dtype)


def _pad(maps: jax.Array, padding: Pair) -> jax.Array:
    """Pads `[H, W, ...]` by zeros."""
    return jnp.pad(maps, [(p, p) for p in padding] + [(0, 0)] * (maps.ndim - 2))


def _window(padded: jax.Array, row: int, column: int, size: Pair) -> jax.Array:
    return wide(padded[row : row + size[0], column : column + size[1]])


def wide(x: jax.Array) -> jax.Array:
    """Casts to at least float32, so that sums keep their precision under bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
