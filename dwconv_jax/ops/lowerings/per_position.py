"""Sliding weights that differ at every position (centre-predicted kernels, sliding attention).

The k*k-fold neighbourhood of the activations is never materialised: each tap is a shifted view.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.connectivity import Sliding


def _pad(x: jax.Array, connectivity: Sliding) -> jax.Array:
    ph, pw = connectivity.padding
    return jnp.pad(x, ((0, 0), (ph, ph), (pw, pw)) + ((0, 0),) * (x.ndim - 3))


def _tap_offsets(connectivity: Sliding) -> list[tuple[int, int]]:
    (kh, kw), (dh, dw) = connectivity.kernel_size, connectivity.dilation
    return [(i * dh, j * dw) for i in range(kh) for j in range(kw)]


def _spread(weights: jax.Array, channels: int) -> jax.Array:
    """Weights of the groups, `[..., G]`, given to their channels: `[..., C]`."""
    groups = weights.shape[-1]
    shape = (*weights.shape, channels // groups)
    return jnp.broadcast_to(weights[..., None], shape).reshape(*weights.shape[:-1], channels)


def _wide(x: jax.Array) -> jax.Array:
    """At least float32, so that sums over taps keep their precision under bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def per_position(x: jax.Array, weights: jax.Array, connectivity: Sliding) -> jax.Array:
    """Mixes `x` by weights of its own at every position.

    Args:
      x: `[B, H, W, C]`.
      weights: `[B or 1, H, W, K, G]`.
      connectivity: the sliding kernel, `K` taps.

    Returns:
      `[B, H, W, C]`.
    """
    _, height, width, channels = x.shape
    padded, weights = _pad(_wide(x), connectivity), _wide(weights)
    products = (
        padded[:, r : r + height, c : c + width] * _spread(weights[:, :, :, k], channels)
        for k, (r, c) in enumerate(_tap_offsets(connectivity))
    )
    return functools.reduce(jnp.add, products).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def tap_products(x: jax.Array, g: jax.Array, groups: int, connectivity: Sliding) -> jax.Array:
    """Products of every position of `g` with the positions of `x` that it sees.

    The adjoint of `per_position` in its weights; with queries for `g` and keys for `x`, the logits
    of sliding attention.

    Args:
      x: `[B, H, W, C]`.
      g: `[B, H, W, C]`.
      groups: `G`; products are summed over the channels of a group.
      connectivity: the sliding kernel, `K` taps.

    Returns:
      `[B, H, W, K, G]`.
    """
    channels = x.shape[-1]
    padded = _pad(x, connectivity)
    # A product with a 0/1 matrix sums the channels of a group far faster than a reshaped sum.
    members = jnp.repeat(jnp.eye(groups, dtype=x.dtype), channels // groups, axis=0)

    def tap(offset: jax.Array) -> jax.Array:
        shifted = lax.dynamic_slice(padded, (0, offset[0], offset[1], 0), x.shape)
        return jnp.dot(shifted * g, members, precision=lax.Precision.HIGHEST)

    return jnp.moveaxis(lax.map(tap, jnp.array(_tap_offsets(connectivity))), 0, 3)


def _seen_by(g: jax.Array, weights: jax.Array, connectivity: Sliding) -> jax.Array:
    """Every position collects from the positions that saw it, with the weight they used.

    The adjoint of `per_position` in `x`: `[B, H, W, C]` and `[B or 1, H, W, K, G]` to
    `[B, H, W, C]`.
    """
    _, height, width, channels = g.shape
    padded_g, padded_w = _pad(_wide(g), connectivity), _pad(_wide(weights), connectivity)
    ph, pw = connectivity.padding

    def tap(k: int, r: int, c: int) -> jax.Array:
        rows, cols = slice(2 * ph - r, 2 * ph - r + height), slice(2 * pw - c, 2 * pw - c + width)
        return padded_g[:, rows, cols] * _spread(padded_w[:, rows, cols, k], channels)

    products = (tap(k, r, c) for k, (r, c) in enumerate(_tap_offsets(connectivity)))
    return functools.reduce(jnp.add, products).astype(g.dtype)


def _per_position_fwd(x: jax.Array, weights: jax.Array, connectivity: Sliding):
    return per_position(x, weights, connectivity), (x, weights)


def _per_position_bwd(connectivity: Sliding, residuals: tuple[jax.Array, jax.Array], g: jax.Array):
    x, weights = residuals
    weight_gradient = tap_products(x, g, weights.shape[-1], connectivity)
    if weights.shape[0] != x.shape[0]:
        weight_gradient = weight_gradient.sum(0, keepdims=True)
    return _seen_by(g, weights, connectivity), weight_gradient


def _tap_products_fwd(x: jax.Array, g: jax.Array, groups: int, connectivity: Sliding):
    return tap_products(x, g, groups, connectivity), (x, g)


def _tap_products_bwd(
    groups: int, connectivity: Sliding, residuals: tuple[jax.Array, jax.Array], t: jax.Array
):
    x, g = residuals
    return _seen_by(g, t, connectivity), per_position(x, t, connectivity)


per_position.defvjp(_per_position_fwd, _per_position_bwd)
tap_products.defvjp(_tap_products_fwd, _tap_products_bwd)
