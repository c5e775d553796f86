"""Sliding kernels: a convolution where positions share the weights, else a sum over taps."""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.lowerings.depthwise import depthwise
from dwconv_jax.ops.lowerings.per_position import per_position, tap_products
from dwconv_jax.ops.lowerings.selection import Lowering

# `models.multiply_adds` finds it by its name in a traced program.
_tap_products = jax.jit(tap_products, static_argnums=(2, 3))


def partition(x: jax.Array, connectivity: Sliding) -> jax.Array:
    """`[B, H, W, ...]` to `[B, H * W, 1, ...]`: every position is a block."""
    del connectivity
    batch, height, width, *rest = x.shape
    return x.reshape(batch, height * width, 1, *rest)


def mix(
    x: jax.Array, weights: jax.Array, connectivity: Sliding, lowering: Lowering = "auto"
) -> jax.Array:
    """Mixes `x` `[B, H, W, C]` by `weights` `[B or 1, H * W or 1, 1, K, G]`."""
    _, height, width, channels = x.shape
    copies, blocks, _, taps, groups = weights.shape
    if blocks == 1:
        kernel = weights.reshape(copies, *connectivity.kernel_size, groups)
        kernel = jnp.repeat(kernel, channels // groups, axis=-1)
        return depthwise(x, kernel, connectivity.dilation, lowering)
    weights = weights.reshape(copies, height, width, taps, groups)
    return per_position(x, weights, connectivity, lowering)


def logits(q: jax.Array, k: jax.Array, connectivity: Sliding) -> jax.Array:
    """Products of queries and the keys under the kernel, `[B, H, W, heads, D]` each."""
    batch, height, width, heads, _ = q.shape
    q, k = (a.reshape(batch, height, width, -1) for a in (q, k))
    products = _tap_products(k, q, heads, connectivity)  # [B, H, W, K, heads]
    return products.swapaxes(3, 4).reshape(batch, height * width, heads, 1, -1)
