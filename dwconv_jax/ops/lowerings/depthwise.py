"""Sliding weights that every position shares: depth-wise convolution, static or per image.

On CPU, XLA's grouped convolution is 20 to 30 times slower than a sum of shifted products, whose
gradients autodiff then spoils; hence one custom VJP around a lowering for each platform.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.connectivity import Pair

# Above this many taps the unrolled sum costs more to compile than a loop over kernel rows to run.
_MAX_UNROLLED_TAPS = 81
# Multiply-adds that one XLA:CPU fusion takes well: far fewer or far more are 3 to 9 times slower.
_FUSION_COLUMNS = 56


def _pad(x: jax.Array, kernel_size: Pair, dilation: Pair) -> jax.Array:
    (kh, kw), (dh, dw) = kernel_size, dilation
    ph, pw = dh * (kh - 1) // 2, dw * (kw - 1) // 2
    return jnp.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))


def shifted_sum(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """The sum over taps of the shifted map times the tap, for CPU.

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
        return functools.reduce(
            jnp.add,
            (rows[:, :, j * dw : j * dw + width] * taps[:, None, None, j] for j in range(kw)),
        )

    if kh * kw <= _MAX_UNROLLED_TAPS:
        sums = (kernel_row(padded[:, i * dh : i * dh + height], kernel[:, i]) for i in range(kh))
        return functools.reduce(jnp.add, sums).astype(x.dtype)

    def add_row(i: jax.Array, total: jax.Array) -> jax.Array:
        rows = lax.dynamic_slice_in_dim(padded, i * dh, height, axis=1)
        return total + kernel_row(rows, lax.dynamic_index_in_dim(kernel, i, axis=1, keepdims=False))

    return lax.fori_loop(0, kh, add_row, jnp.zeros(x.shape, wide)).astype(x.dtype)


def shifted_kernel_gradient(
    x: jax.Array, g: jax.Array, kernel_size: Pair, dilation: Pair
) -> jax.Array:
    """The gradient with respect to the kernel of each image, for CPU: `[B, kh, kw, C]`.

    Loops over the rows of the map and unrolls their columns, so that a fusion holds enough
    multiply-adds; the accumulator keeps the batch axis, which threads and devices split.
    """
    batch, height, width, channels = x.shape
    (kh, kw), (dh, dw) = kernel_size, dilation
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded, g = _pad(x.astype(wide), kernel_size, dilation), g.astype(wide)
    span_h, span_w = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    chunk = -(-width // -(-width // _FUSION_COLUMNS))

    def add_map_row(h: jax.Array, total: jax.Array) -> jax.Array:
        rows = lax.dynamic_slice_in_dim(padded, h, span_h, axis=1)[:, ::dh]
        g_row = lax.dynamic_slice_in_dim(g, h, 1, axis=1)
        for start in range(0, width, chunk):
            products = (
                rows[:, :, u : u + span_w : dw] * g_row[:, :, u : u + 1]
                for u in range(start, min(width, start + chunk))
            )
            total = total + functools.reduce(jnp.add, products)
        return total

    total = jnp.zeros((batch, kh, kw, channels), wide)
    return lax.fori_loop(0, height, add_map_row, total)


def native_conv(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """XLA's own grouped convolution, for TPU (native) and GPU (cuDNN); arguments as above."""
    if kernel.shape[0] == 1:
        return _grouped_conv(x, kernel[0], dilation)
    per_image = functools.partial(_grouped_conv, dilation=dilation)
    return jax.vmap(lambda image, taps: per_image(image[None], taps)[0])(x, kernel)


def _grouped_conv(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    kh, kw, channels = kernel.shape
    (ph, pw) = dilation[0] * (kh - 1) // 2, dilation[1] * (kw - 1) // 2
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(1, 1),
        padding=((ph, ph), (pw, pw)),
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """Depth-wise convolution `[B, H, W, C]` by `[B or 1, kh, kw, C]`, same size, zero padding."""
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(shifted_sum, dilation=dilation),
        default=functools.partial(native_conv, dilation=dilation),
    )


def _forward(x: jax.Array, kernel: jax.Array, dilation: Pair):
    return depthwise(x, kernel, dilation), (x, kernel)


def _backward(dilation: Pair, residuals: tuple[jax.Array, jax.Array], g: jax.Array):
    x, kernel = residuals
    dx = depthwise(g, kernel[:, ::-1, ::-1], dilation)

    def on_cpu(x, g, kernel):
        per_image = shifted_kernel_gradient(x, g, kernel.shape[1:3], dilation)
        summed = per_image if len(kernel) == len(x) else per_image.sum(0, keepdims=True)
        return summed.astype(kernel.dtype)

    def native(x, g, kernel):
        return jax.linear_transpose(lambda k: native_conv(x, k, dilation), kernel)(g)[0]

    return dx, lax.platform_dependent(x, g, kernel, cpu=on_cpu, default=native)


depthwise.defvjp(_forward, _backward)
