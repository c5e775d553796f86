"""Sliding weights that differ at every position (centre-predicted kernels, sliding attention).

Each tap is a shifted view: the k*k-fold neighborhood of the activations is never materialized.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.lowerings.bilinear import Bilinear, merge_batches
from dwconv_jax.ops.lowerings.cpu.fusions import compute_once
from dwconv_jax.ops.lowerings.selection import Lowering
from dwconv_jax.ops.lowerings.tpu import dynamic as pallas_dynamic
from dwconv_jax.ops.lowerings.tpu import images_in_lanes
from dwconv_jax.ops.lowerings.tpu.images_in_lanes import wide
from dwconv_jax.ops.lowerings.tpu.platform import by_pallas


def _pad(x: jax.Array, connectivity: Sliding) -> jax.Array:
    ph, pw = connectivity.padding
    return jnp.pad(x, ((0, 0), (ph, ph), (pw, pw)) + ((0, 0),) * (x.ndim - 3))


def _sum_over_taps(
    product: Callable[[int, int, int], jax.Array], connectivity: Sliding, like: jax.Array
) -> jax.Array:
    """Sums `product(tap, row, column)` over the taps, which see the padded map from that place."""
    (kh, kw), (dh, dw) = connectivity.kernel_size, connectivity.dilation

    def total() -> jax.Array:
        products = (product(k, k // kw * dh, k % kw * dw) for k in range(kh * kw))
        return functools.reduce(jnp.add, products).astype(like.dtype)

    return compute_once(total, like)


def spread(weights: jax.Array, channels: int) -> jax.Array:
    """Repeats the weights of groups, `[..., G]`, for their channels: `[..., C]`."""
    groups = weights.shape[-1]
    shape = (*weights.shape, channels // groups)
    return jnp.broadcast_to(weights[..., None], shape).reshape(*weights.shape[:-1], channels)


@Bilinear
def per_position(
    x: jax.Array, weights: jax.Array, connectivity: Sliding, lowering: Lowering = "auto"
) -> jax.Array:
    """Mixes `x` by different weights at every position.

    Args:
      x: `[B, H, W, C]`.
      weights: `[B or 1, H, W, K, G]`.
      connectivity: the sliding kernel, `K` taps.
      lowering: "auto" picks by platform; "pallas" uses this project's kernels on TPU, for dynamic
        weights.

    Returns:
      `[B, H, W, C]`.

    Raises:
      UserError: if `lowering="pallas"` has no kernel for these arrays.
    """
    if lowering == "pallas":
        on_tpu = functools.partial(pallas_dynamic.mix, connectivity=connectivity)
        return by_pallas(on_tpu, lambda x, w: per_position(x, w, connectivity), x, weights)
    tpu, default = (
        functools.partial(form, connectivity=connectivity) for form in (images_in_lanes.mix, _mix)
    )
    return lax.platform_dependent(x, weights, tpu=tpu, default=default)


def _mix(x: jax.Array, weights: jax.Array, *, connectivity: Sliding) -> jax.Array:
    _, height, width, channels = x.shape
    padded, weights = _pad(wide(x), connectivity), wide(weights)

    def product(tap: int, row: int, column: int) -> jax.Array:
        seen = padded[:, row : row + height, column : column + width]
        return seen * spread(weights[:, :, :, tap], channels)

    return _sum_over_taps(product, connectivity, like=x)


@Bilinear
def tap_products(
    x: jax.Array,
    g: jax.Array,
    groups: int,
    connectivity: Sliding,
    lowering: Lowering = "auto",
) -> jax.Array:
    """Multiplies every position of `g` with the positions of `x` that it sees.

    This is the adjoint of `per_position` in its weights. If `g` holds queries and `x` keys, the
    products are the logits of sliding attention.

    Args:
      x: `[B, H, W, C]`.
      g: `[B, H, W, C]`.
      groups: `G`; products are summed over the channels of a group.
      connectivity: the sliding kernel, `K` taps.
      lowering: as for `per_position`.

    Returns:
      `[B, H, W, K, G]`.
    """
    if lowering == "pallas":
        shape = (*x.shape[1:3], math.prod(connectivity.kernel_size), groups)
        on_tpu = functools.partial(
            pallas_dynamic.tap_products, weights_shape=shape, connectivity=connectivity
        )
        return by_pallas(on_tpu, lambda x, g: tap_products(x, g, groups, connectivity), x, g)
    in_lanes, at_once, in_turn = (
        functools.partial(form, groups=groups, connectivity=connectivity)
        for form in (images_in_lanes.tap_products, taps_at_once, _taps_in_turn)
    )
    return lax.platform_dependent(x, g, tpu=in_lanes, cuda=at_once, default=in_turn)


def taps_at_once(x: jax.Array, g: jax.Array, *, groups: int, connectivity: Sliding) -> jax.Array:
    """`tap_products` as one expression, which XLA:GPU compiles to one kernel."""
    (batch, height, width, channels), (dh, dw) = x.shape, connectivity.dilation
    kh, kw = connectivity.kernel_size
    padded = _pad(x, connectivity)
    members = (groups, channels // groups)
    wide_g = wide(g).reshape(batch, height, width, 1, *members)

    def products(row: int) -> jax.Array:
        rows = padded[:, row * dh : row * dh + height]
        seen = jnp.stack([rows[:, :, j * dw : j * dw + width] for j in range(kw)], axis=3)
        seen = wide(seen).reshape(batch, height, width, kw, *members)
        return (seen * wide_g).sum(-1).astype(x.dtype)

    return jnp.concatenate([products(row) for row in range(kh)], axis=3)


def _taps_in_turn(x: jax.Array, g: jax.Array, *, groups: int, connectivity: Sliding) -> jax.Array:
    channels, (kh, kw), (dh, dw) = x.shape[-1], connectivity.kernel_size, connectivity.dilation
    padded = _pad(x, connectivity)
    # Multiplying by a 0/1 matrix sums the channels of a group far faster than reshaping does.
    members = jnp.repeat(jnp.eye(groups, dtype=x.dtype), channels // groups, axis=0)

    def write_tap(tap: jax.Array, out: jax.Array) -> jax.Array:
        shifted = lax.dynamic_slice(padded, (0, tap // kw * dh, tap % kw * dw, 0), x.shape)
        products = jnp.dot(shifted * g, members, precision=lax.Precision.HIGHEST)
        return lax.dynamic_update_index_in_dim(out, products, tap, axis=3)

    out = jnp.zeros_like(x, shape=(*x.shape[:3], kh * kw, groups))
    return lax.fori_loop(0, kh * kw, write_tap, out)


@Bilinear
def seen_by(
    g: jax.Array, weights: jax.Array, connectivity: Sliding, lowering: Lowering = "auto"
) -> jax.Array:
    """Sums, at every position, the positions that see it, times their weights for it.

    This is the adjoint of `per_position` in `x`.

    Args:
      g: `[B, H, W, C]`.
      weights: `[B or 1, H, W, K, G]`.
      connectivity: the sliding kernel, `K` taps.
      lowering: as for `per_position`.

    Returns:
      `[B, H, W, C]`.
    """
    if lowering == "pallas":
        on_tpu = functools.partial(pallas_dynamic.seen_by, connectivity=connectivity)
        return by_pallas(on_tpu, lambda g, w: seen_by(g, w, connectivity), g, weights)
    tpu, default = (
        functools.partial(form, connectivity=connectivity)
        for form in (images_in_lanes.seen_by, _seen_by)
    )
    return lax.platform_dependent(g, weights, tpu=tpu, default=default)


def _seen_by(g: jax.Array, weights: jax.Array, *, connectivity: Sliding) -> jax.Array:
    """Shifts the products instead of their factors, since padded weights would need more memory."""
    wide_g, weights, channels = wide(g), wide(weights), g.shape[-1]
    ph, pw = connectivity.padding

    def product(tap: int, row: int, column: int) -> jax.Array:
        down, right = row - ph, column - pw
        sent = wide_g * spread(weights[:, :, :, tap], channels)
        shift = ((0, 0, 0), (down, -down, 0), (right, -right, 0), (0, 0, 0))
        return lax.pad(sent, jnp.zeros((), sent.dtype), shift)

    return _sum_over_taps(product, connectivity, like=g)


def _weight_gradient(
    x: jax.Array,
    g: jax.Array,
    shape: tuple[int, ...],
    connectivity: Sliding,
    lowering: Lowering,
) -> jax.Array:
    gradient = tap_products(x, g, shape[-1], connectivity, lowering)
    return gradient if shape[0] == x.shape[0] else gradient.sum(0, keepdims=True)


# The transposes of each of the three functions are the other two.
per_position.def_transposes(
    lambda t, x, weights, *static: seen_by(t, weights, *static),
    lambda t, x, weights, *static: _weight_gradient(x, t, weights.shape, *static),
)
seen_by.def_transposes(
    lambda t, g, weights, *static: per_position(t, weights, *static),
    lambda t, g, weights, *static: _weight_gradient(t, g, weights.shape, *static),
)
tap_products.def_transposes(
    lambda t, x, g, groups, *static: seen_by(g, t, *static),
    lambda t, x, g, groups, *static: per_position(x, t, *static),
)


@tap_products.def_vmap
def _tap_products_of_all(
    size: int, x: jax.Array, g: jax.Array, groups: int, connectivity: Sliding, lowering: Lowering
) -> jax.Array:
    """Merges both batches: unlike weights, neither `x` nor `g` is ever shared by images."""
    batch = x.shape[1]
    x, g = merge_batches(x, size, batch), merge_batches(g, size, batch)
    products = tap_products(x, g, groups, connectivity, lowering)
    return products.reshape(size, batch, *products.shape[1:])
