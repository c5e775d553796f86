"""Depth-wise convolution as sums of shifted products, for XLA:CPU.

XLA:CPU's own grouped convolution is 20 to 30 times slower.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.connectivity import Pair
from dwconv_jax.ops.lowerings.cpu.fusions import compute_once

# With more taps than this, an unrolled sum costs more to compile than a loop over kernel rows costs
# to run.
_MAX_UNROLLED_TAPS = 81
# How many products a fusion of XLA:CPU adds up efficiently: with far fewer or far more it is 3 to 9
# times slower. A loop step takes at least the first and at most the second number, a fusion of the
# kernel gradient at most the third.
_FEWEST_PRODUCTS, _MOST_PRODUCTS, _FUSED_PRODUCTS = 24, 56, 28
# Most columns in a step of the kernel gradient: one step of 224 takes 77 ms, two of 112 take 12.
_MOST_COLUMNS = 112


def _pad(x: jax.Array, kernel_size: Pair, dilation: Pair) -> jax.Array:
    (kh, kw), (dh, dw) = kernel_size, dilation
    ph, pw = dh * (kh - 1) // 2, dw * (kw - 1) // 2
    return jnp.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))


def shifted_sum(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """Sums the shifted map times the tap, over all taps.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[B or 1, kh, kw, C]`.
      dilation: rows and columns between taps.

    Returns:
      `[B, H, W, C]`.
    """
    _, height, width, _ = x.shape
    _, kh, kw, _ = kernel.shape
    dh, dw = dilation
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded, kernel = _pad(x.astype(wide), (kh, kw), dilation), kernel.astype(wide)

    def kernel_row(rows: jax.Array, taps: jax.Array) -> jax.Array:
        columns = (slice(j * dw, j * dw + width) for j in range(kw))
        products = (rows[:, :, c] * taps[:, None, None, j] for j, c in enumerate(columns))
        return functools.reduce(jnp.add, products)

    def unrolled() -> jax.Array:
        rows = (slice(i * dh, i * dh + height) for i in range(kh))
        sums = (kernel_row(padded[:, r], kernel[:, i]) for i, r in enumerate(rows))
        return functools.reduce(jnp.add, sums).astype(x.dtype)

    if kh * kw <= _MAX_UNROLLED_TAPS:
        return compute_once(unrolled, like=x)

    rows_at_once = _rows_at_once(kh, kw)
    missing = -kh % rows_at_once  # pad the kernel by rows of zeros, and the map to match
    kernel = jnp.pad(kernel, ((0, 0), (0, missing), (0, 0), (0, 0)))
    padded = jnp.pad(padded, ((0, 0), (0, dh * missing), (0, 0), (0, 0)))

    def add_rows(step: jax.Array, total: jax.Array) -> jax.Array:
        first = step * rows_at_once
        taps = lax.dynamic_slice_in_dim(kernel, first, rows_at_once, axis=1)
        seen = lax.dynamic_slice_in_dim(
            padded, first * dh, height + dh * (rows_at_once - 1), axis=1
        )
        rows = (slice(i * dh, i * dh + height) for i in range(rows_at_once))
        sums = (kernel_row(seen[:, r], taps[:, i]) for i, r in enumerate(rows))
        return total + functools.reduce(jnp.add, sums)

    total = jnp.zeros_like(x, wide)
    return lax.fori_loop(0, kernel.shape[1] // rows_at_once, add_rows, total).astype(x.dtype)


def shifted_kernel_gradient(
    x: jax.Array, g: jax.Array, kernel_size: Pair, dilation: Pair
) -> jax.Array:
    """The gradient with respect to each image's kernel.

    Loops over rows of the map, wide ones in parts, and unrolls their positions, so that fusions
    hold enough products. The accumulator keeps the batch axis, which threads and devices split.

    Args:
      x: `[B, H, W, C]`.
      g: `[B, H, W, C]`, the cotangent of the convolution.
      kernel_size: rows and columns of the kernel.
      dilation: rows and columns between taps.

    Returns:
      `[B, kh, kw, C]`, at least float32.
    """
    batch, height, width, channels = x.shape
    (kh, kw), (dh, dw) = kernel_size, dilation
    wide = jnp.promote_types(x.dtype, jnp.float32)
    rows, parts = _rows_at_once(height, width), -(-width // _MOST_COLUMNS)
    columns = -(-width // parts)
    missing = ((0, 0), (0, -height % rows), (0, parts * columns - width), (0, 0))
    padded = jnp.pad(_pad(x.astype(wide), kernel_size, dilation), missing)
    g = jnp.pad(g.astype(wide), missing)
    span_h, span_w = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    positions = [(r, u) for r in range(rows) for u in range(columns)]
    fusions = -(-len(positions) // _FUSED_PRODUCTS)

    def add_rows(step: jax.Array, total: jax.Array) -> jax.Array:
        first = (0, step // parts * rows, step % parts * columns, 0)
        window = (batch, rows + span_h - 1, columns + span_w - 1, channels)
        seen = lax.dynamic_slice(padded, first, window)
        g_rows = lax.dynamic_slice(g, first, (batch, rows, columns, channels))
        for i in range(fusions):
            products = (
                seen[:, r : r + span_h : dh, u : u + span_w : dw] * g_rows[:, r, u][:, None, None]
                for r, u in positions[i::fusions]
            )
            total = total + functools.reduce(jnp.add, products)
        return total

    total = jnp.zeros_like(padded, shape=(batch, kh, kw, channels))
    return lax.fori_loop(0, g.shape[1] // rows * parts, add_rows, total)


def _rows_at_once(height: int, width: int) -> int:
    """The rows of a map or kernel in one loop step; divides the height if possible."""
    fewest, most = -(-_FEWEST_PRODUCTS // width), _MOST_PRODUCTS // width
    dividing = (rows for rows in range(fewest, most + 1) if height % rows == 0)
    return next(dividing, min(fewest, height))
