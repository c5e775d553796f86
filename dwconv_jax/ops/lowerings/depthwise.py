"""Sliding weights that all positions share: depth-wise convolution, static or per image.

The convolution and its kernel gradient are each other's transposes. Autodiff would derive slow
forms on CPU, so both are defined here, with a lowering per platform, or by kernels of our own on
request.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import export, lax

from dwconv_jax.ops.connectivity import Pair, Sliding
from dwconv_jax.ops.lowerings.bilinear import Bilinear, merge_batches
from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel
from dwconv_jax.ops.lowerings.cpu.shifted_sums import shifted_kernel_gradient, shifted_sum
from dwconv_jax.ops.lowerings.gpu import depthwise as cuda_depthwise
from dwconv_jax.ops.lowerings.gpu.platform import Launch, by_cuda
from dwconv_jax.ops.lowerings.native_conv import native_conv
from dwconv_jax.ops.lowerings.selection import Lowering
from dwconv_jax.ops.lowerings.tpu import depthwise as pallas_depthwise
from dwconv_jax.ops.lowerings.tpu import dynamic as pallas_dynamic
from dwconv_jax.ops.lowerings.tpu.platform import by_pallas


def depthwise(
    x: jax.Array, kernel: jax.Array, dilation: Pair, lowering: Lowering = "auto"
) -> jax.Array:
    """Depth-wise convolution of stride 1 with zero padding.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[B or 1, kh, kw, C]`.
      dilation: rows and columns between taps.
      lowering: "auto" picks by platform; "pallas" and "cuda" use this project's kernels on TPU and
        on NVIDIA GPUs.

    Returns:
      `[B, H, W, C]`.

    Raises:
      UserError: if `lowering` has no kernel for these arrays.
    """
    rows, columns = map(_taps_that_see, kernel.shape[1:3], dilation, x.shape[1:3])
    return _convolve(x, kernel[:, rows, columns], dilation, lowering)


def _taps_that_see(taps: int, dilation: int, size: int) -> slice:
    """The taps that ever meet a map of that size; the others would only add padding to it."""
    if export.is_symbolic_dim(size):
        return slice(taps)
    outside = (dilation * (taps - 1) // 2 - size) // dilation + 1  # on either side
    outside = min(max(outside, 0), (taps - 1) // 2)
    return slice(outside, taps - outside)


@Bilinear
def _convolve(x: jax.Array, kernel: jax.Array, dilation: Pair, lowering: Lowering) -> jax.Array:
    if lowering == "pallas":
        on_tpu = functools.partial(_convolve_by_pallas, dilation=dilation)
        return by_pallas(
            on_tpu, lambda x, kernel: _convolve(x, kernel, dilation, "auto"), x, kernel
        )

    if lowering == "cuda":
        on_gpu = functools.partial(cuda_depthwise.convolve, dilation=dilation)
        return by_cuda(on_gpu, lambda x, kernel: _convolve(x, kernel, dilation, "auto"), x, kernel)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return (cpu_kernel.convolve if _compiled(x) else shifted_sum)(x, kernel, dilation)

    form = native_conv if _grouped(x, kernel.shape[0]) else shifted_sum
    elsewhere = functools.partial(form, dilation=dilation)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _compiled(x: jax.Array) -> bool:
    # Symbolic sizes mean export: the program must run without the compiled kernel.
    symbolic = any(map(export.is_symbolic_dim, x.shape))
    return x.dtype in (jnp.float32, jnp.bfloat16) and not symbolic and cpu_kernel.is_usable()


def _grouped(x: jax.Array, copies: int) -> bool:
    # Images with kernels of their own are groups, whose number cannot be symbolic.
    return copies == 1 or not export.is_symbolic_dim(x.shape[0])


def _convolve_by_pallas(x: jax.Array, kernel: jax.Array, *, dilation: Pair) -> jax.Array:
    if kernel.shape[0] == 1:
        return pallas_depthwise.convolve(x, kernel[0], dilation)
    weights = kernel.reshape(len(kernel), 1, 1, -1, kernel.shape[-1])
    return pallas_dynamic.mix(x, weights, Sliding((kernel.shape[1], kernel.shape[2]), dilation))


@Bilinear
def kernel_gradient(
    x: jax.Array,
    g: jax.Array,
    shape: tuple[int, int, int],
    dilation: Pair,
    lowering: Lowering = "auto",
) -> jax.Array:
    """Computes the gradient of `depthwise` with respect to its kernel.

    Args:
      x: `[B, H, W, C]`.
      g: `[B, H, W, C]`, the cotangent of the result.
      shape: `(B or 1, kh, kw)`; with 1, the gradient is summed over images.
      dilation: rows and columns between taps.
      lowering: as for `depthwise`.

    Returns:
      `[*shape, C]`.
    """
    if lowering == "pallas":
        on_tpu = functools.partial(_gradient_by_pallas, shape=shape, dilation=dilation)
        return by_pallas(on_tpu, lambda x, g: kernel_gradient(x, g, shape, dilation), x, g)
    if lowering == "cuda":
        return by_cuda(
            functools.partial(_gradient_by_cuda, shape=shape, dilation=dilation),
            lambda x, g: kernel_gradient(x, g, shape, dilation),
            x,
            g,
        )
    copies, kernel_size = shape[0], shape[1:]

    def on_cpu(x: jax.Array, g: jax.Array) -> jax.Array:
        gradient = cpu_kernel.kernel_gradient if _compiled(x) else shifted_kernel_gradient
        per_image = gradient(x, g, kernel_size, dilation)
        return (per_image if copies == x.shape[0] else _sum_images(per_image)).astype(x.dtype)

    def native(x: jax.Array, g: jax.Array) -> jax.Array:
        kernel = jnp.zeros_like(x, shape=(*shape, x.shape[-1]))  # for its type
        return jax.linear_transpose(lambda k: native_conv(x, k, dilation), kernel)(g)[0]

    elsewhere = native if _grouped(x, copies) else on_cpu
    return lax.platform_dependent(x, g, cpu=on_cpu, default=elsewhere)


def _gradient_by_pallas(
    x: jax.Array, g: jax.Array, *, shape: tuple[int, int, int], dilation: Pair
) -> jax.Array:
    copies, kernel_size = shape[0], shape[1:]
    if copies == 1:
        gradient = pallas_depthwise.kernel_gradient(x, g, kernel_size, dilation)
    else:
        taps = (1, 1, math.prod(kernel_size), x.shape[-1])
        gradient = pallas_dynamic.tap_products(x, g, taps, Sliding(kernel_size, dilation))
    return gradient.reshape(*shape, x.shape[-1]).astype(x.dtype)


def _gradient_by_cuda(
    launch: Launch,
    x: jax.Array,
    g: jax.Array,
    *,
    shape: tuple[int, int, int],
    dilation: Pair,
) -> jax.Array:
    return cuda_depthwise.kernel_gradient(launch, x, g, shape, dilation).astype(x.dtype)


def _sum_images(per_image: jax.Array) -> jax.Array:
    """Sums `[B, kh, kw, C]` to `[1, kh, kw, C]`, 50 times faster than XLA:CPU's own sum."""
    ones = jnp.ones(per_image.shape[0], per_image.dtype)
    return jnp.einsum("b,bijc->ijc", ones, per_image, precision=lax.Precision.HIGHEST)[None]


def _flip(kernel: jax.Array) -> jax.Array:
    return kernel[:, ::-1, ::-1]


_convolve.def_transposes(
    lambda t, x, kernel, *static: _convolve(t, _flip(kernel), *static),
    lambda t, x, kernel, *static: kernel_gradient(x, t, kernel.shape[:3], *static),
)
kernel_gradient.def_transposes(
    lambda t, x, g, shape, *static: _convolve(g, _flip(t), *static),
    lambda t, x, g, shape, *static: _convolve(x, t, *static),
)


@kernel_gradient.def_vmap
def _gradient_of_each_example(
    size: int,
    x: jax.Array,
    g: jax.Array,
    shape: tuple[int, int, int],
    dilation: Pair,
    lowering: Lowering,
) -> jax.Array:
    """Sums a shared kernel's gradient over the images of each example, not over examples."""
    batch, (copies, kh, kw) = x.shape[1], shape
    x, g = merge_batches(x, size, batch), merge_batches(g, size, batch)
    gradient = kernel_gradient(x, g, (size * batch, kh, kw), dilation, lowering)
    gradient = gradient.reshape(size, batch, *gradient.shape[1:])
    return gradient if copies == batch else jax.vmap(_sum_images)(gradient)
