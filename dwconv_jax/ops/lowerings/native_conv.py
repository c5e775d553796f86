"""Depth-wise convolution as XLA's grouped convolution: native on TPU, cuDNN's on GPU."""

import functools

import jax
from jax import lax

from dwconv_jax.ops.connectivity import Pair


def native_conv(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """Convolves `[B, H, W, C]` by `[B or 1, kh, kw, C]`, channel by channel."""
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
