"""Depth-wise convolution as a function of its own."""

import functools

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_map
from dwconv_jax.ops.connectivity import Pair, Sliding
from dwconv_jax.ops.lowerings.depthwise import depthwise
from dwconv_jax.ops.sharding import by_xla, split_of


@functools.partial(jax.jit, static_argnames="dilation")
def depthwise_conv(x: jax.Array, kernel: jax.Array, dilation: int | Pair = 1) -> jax.Array:
    """Convolves every channel with its own kernel: stride 1, zero padding, same size.

    Equals `lax.conv_general_dilated` with `feature_group_count=C`, without its slow paths on CPU:
    kernels of any size, dilation and both gradients are fast. For a sequence `[B, T, C]`, use a map
    of height 1: `depthwise_conv(x[:, None], kernel[None])[:, 0]`.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[kh, kw, C]`, not flipped: a cross-correlation, as in other neural network libraries.
      dilation: rows and columns between taps, an int or a pair.

    Returns:
      `[B, H, W, C]` in the common dtype of `x` and `kernel`; sums are float32 at least on CPU.

    Raises:
      ValueError: if the shapes do not fit, or an even kernel size has no center.
    """
    check_map(x)
    if kernel.ndim != 3 or kernel.shape[2] != x.shape[3]:
        raise ValueError(f"kernel must be [kh, kw, {x.shape[3]}], got shape {kernel.shape}")
    connectivity = Sliding((kernel.shape[0], kernel.shape[1]), dilation)
    dtype = jnp.result_type(x, kernel)
    convolve = functools.partial(depthwise, dilation=connectivity.dilation)
    arrays = x.astype(dtype), kernel.astype(dtype)[None]
    return by_xla(convolve, *arrays, split=split_of(x))
