"""Sliding kernels: convolutions, sums over taps, or matrix products of large blocks."""

import math

import jax
import jax.numpy as jnp

from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.lowerings import gather, taps
from dwconv_jax.ops.lowerings.convolution import convolution
from dwconv_jax.ops.lowerings.per_position import per_position, tap_products
from dwconv_jax.ops.lowerings.selection import Lowering

# What a block sees is gathered, for matrix products, if that is at most this many times the map. On
# CPU they take a third of the time of a sum over taps then, at 1.5 times the memory.
_MOST_GATHERED = 4


def mix(
    x: jax.Array, weights: jax.Array, connectivity: Sliding, lowering: Lowering = "auto"
) -> jax.Array:
    """Mixes `x` `[B, *spatial, C]` by `weights` `[B or 1, N or 1, Q, K, G]`."""
    copies, blocks, _, num_taps, groups = weights.shape
    if blocks == 1 and all(axis.at_fixed_offsets for axis in connectivity.along):
        kernel = weights.reshape(copies, *connectivity.kernel_size, groups)
        kernel = jnp.repeat(kernel, x.shape[-1] // groups, axis=-1)
        return convolution(x, kernel, connectivity.along, lowering)
    if connectivity.is_plain:
        weights = weights.reshape(copies, *x.shape[1:-1], num_taps, groups)
        return per_position(x, weights, connectivity, lowering)
    return (gather if _in_large_blocks(connectivity) else taps).mix(x, weights, connectivity)


def covers(lowering: Lowering, connectivity: Sliding, dynamic: bool, per_position: bool) -> bool:
    """Whether `mix` has kernels for that lowering; see `selection.COVERAGE`."""
    if lowering == "pallas":
        return connectivity.is_plain and (dynamic or not per_position)
    return not per_position and all(axis.at_fixed_offsets for axis in connectivity.along)


def logits(q: jax.Array, k: jax.Array, connectivity: Sliding) -> jax.Array:
    """Products of queries and the keys under the kernel, `[B, *spatial, heads, D]` each."""
    if not connectivity.is_plain:
        return (gather if _in_large_blocks(connectivity) else taps).logits(q, k, connectivity)
    batch, height, width, heads, _ = q.shape
    q, k = (a.reshape(batch, height, width, -1) for a in (q, k))
    products = tap_products(k, q, heads, connectivity)  # [B, H, W, K, heads]
    return products.swapaxes(3, 4).reshape(batch, height * width, heads, 1, -1)


def _in_large_blocks(connectivity: Sliding) -> bool:
    """Whether blocks see little more than themselves, and all their positions the same."""
    gathered = math.prod(connectivity.kernel_size) / math.prod(connectivity.stride)
    return connectivity.shares_keys and gathered <= _MOST_GATHERED
