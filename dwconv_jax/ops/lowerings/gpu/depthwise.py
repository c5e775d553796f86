"""Depth-wise convolution and its kernel gradient by the CUDA kernels; devices split the images."""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.connectivity import Pair
from dwconv_jax.ops.lowerings.bilinear import equally_varying
from dwconv_jax.ops.lowerings.gpu.choice import forward_plans, gradient_plans
from dwconv_jax.ops.lowerings.gpu.plan import Case
from dwconv_jax.ops.lowerings.gpu.platform import Launch, is_bfloat16
from dwconv_jax.ops.lowerings.split_images import split_images


def convolve(launch: Launch, x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """Depth-wise convolution with stride 1 and zero padding.

    Args:
      launch: runs a kernel; see `platform.by_cuda`.
      x: float32 or bfloat16 `[B, H, W, C]`.
      kernel: `[B or 1, kh, kw, C]` of the same dtype, with odd sizes.
      dilation: rows and columns between taps.

    Returns:
      `[B, H, W, C]`.

    Raises:
      UserError: if there is no kernel for the dtype or the kernel's size.
    """

    def local(x: jax.Array, kernel: jax.Array) -> jax.Array:
        case = _case(x, kernel.shape[0], kernel.shape[1:3], dilation)
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return _varying_as(x, launch(forward_plans(case)[0], result, x, kernel))

    return split_images(local, x, kernel, maps=1 if kernel.shape[0] == 1 else 2)


def kernel_gradient(
    launch: Launch, x: jax.Array, g: jax.Array, shape: tuple[int, int, int], dilation: Pair
) -> jax.Array:
    """Computes the gradient of `convolve` with respect to its kernel.

    Args:
      launch: runs a kernel; see `platform.by_cuda`.
      x: float32 or bfloat16 `[B, H, W, C]`.
      g: the cotangent of the result, of the same shape and dtype.
      shape: `(B or 1, kh, kw)`; with 1, the gradient is summed over images.
      dilation: rows and columns between taps.

    Returns:
      float32 `[*shape, C]`.

    Raises:
      UserError: as for `convolve`.
    """
    copies, kh, kw = shape

    def local(x: jax.Array, g: jax.Array) -> jax.Array:
        case = _case(x, copies, (kh, kw), dilation)
        plan = gradient_plans(case)[0]
        result = jax.ShapeDtypeStruct((plan.partials, kh, kw, x.shape[-1]), jnp.float32)
        parts = _varying_as(x, launch(plan, result, x, g))
        return parts.sum(0, keepdims=True) if copies == 1 else parts

    return split_images(local, x, g, maps=2, sums=copies == 1)


def _varying_as(x: jax.Array, result: jax.Array) -> jax.Array:
    """The result of a kernel, which varies over the same axes of `shard_map` as its argument."""
    return equally_varying(x, result)[1]


def _case(x: jax.Array, copies: int, kernel_size: tuple[int, ...], dilation: Pair) -> Case:
    (batch, height, width, channels), (rows, columns) = x.shape, kernel_size
    shape = batch, height, width, channels
    return Case(shape, (rows, columns), dilation, is_bfloat16(x), copies != 1)
