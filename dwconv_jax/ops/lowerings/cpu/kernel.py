"""The optional compiled kernels for CPU: loads them, and depth-wise convolution (`kernel.cc`).

pip builds it if there is a C++ compiler. Without it, or with `DWCONV_JAX_CPU_KERNEL=0` in the
environment, XLA does the same work.
"""

import ctypes
import functools
import importlib.util
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from dwconv_jax.ops.connectivity import Pair

_TARGETS = (
    "DwconvConvolve",
    "DwconvKernelGradient",
    "DwconvShortConv",
    "DwconvShortConvGradients",
)


@functools.cache
def is_built() -> bool:
    """Whether the shared object exists and XLA accepts its functions."""
    spec = importlib.util.find_spec("dwconv_jax.ops.lowerings.cpu._kernel")
    if spec is None or spec.origin is None:
        return False
    try:
        library = ctypes.CDLL(spec.origin)
        for target in _TARGETS:
            handler = jax.ffi.pycapsule(getattr(library, target))
            jax.ffi.register_ffi_target(target, handler, platform="cpu")
    except Exception:  # built for another machine or XLA: fall back to XLA's lowering
        return False
    return True


def is_usable() -> bool:
    """Whether the kernels are built, enabled, and can be called in the current trace."""
    wanted = os.environ.get("DWCONV_JAX_CPU_KERNEL", "1") != "0"
    # `shard_map` tracks which arrays vary between devices; custom_partitioning loses that.
    in_shard_map = bool(jax.sharding.get_abstract_mesh().manual_axes)
    return wanted and not in_shard_map and is_built()


def convolve(x: jax.Array, kernel: jax.Array, dilation: Pair) -> jax.Array:
    """Computes `depthwise.depthwise` by the compiled kernel, in float32.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[B or 1, kh, kw, C]`.
      dilation: rows and columns between taps.

    Returns:
      `[B, H, W, C]` of the dtype of `x`.
    """
    x32, kernel32 = x.astype(jnp.float32), kernel.astype(jnp.float32)
    y = _call_images(x32, kernel32, "DwconvConvolve", x.shape[1:3], dilation)
    return y.astype(x.dtype)


def kernel_gradient(x: jax.Array, g: jax.Array, kernel_size: Pair, dilation: Pair) -> jax.Array:
    """Computes the gradient with respect to each image's kernel, by the compiled kernel.

    Args:
      x: `[B, H, W, C]`.
      g: `[B, H, W, C]`.
      kernel_size: rows and columns of the kernel.
      dilation: rows and columns between taps.

    Returns:
      float32 `[B, kh, kw, C]`.
    """
    x32, g32 = x.astype(jnp.float32), g.astype(jnp.float32)
    return _call_images(x32, g32, "DwconvKernelGradient", kernel_size, dilation)


@functools.partial(custom_partitioning, static_argnums=(2, 3, 4))
def _call_images(
    x: jax.Array, other: jax.Array, target: str, result_size: Pair, dilation: Pair
) -> jax.Array:
    """Maps `[B, H, W, C]` and `[B or 1, ., ., C]` to `[B, *result_size, C]`."""
    result = jax.ShapeDtypeStruct((x.shape[0], *result_size, x.shape[3]), x.dtype)
    call = jax.ffi.ffi_call(target, result)
    return call(x, other, dilation_h=dilation[0], dilation_w=dilation[1])


def _sharding_rule(target: str, result_size: Pair, dilation: Pair, mesh: Any, arguments, results):
    """Images and channels are independent, so devices may split both."""
    x, other = (a.shape for a in arguments)
    images = "b" if other[0] == x[0] else "o"
    rule = f"b h w c, {images} i j c -> b k l c"
    return rule, {"need_replication_factors": tuple("hwijkl")}


def _partition(target: str, result_size: Pair, dilation: Pair, mesh: Any, arguments, result):
    batch, _, _, channels = (*result.sharding.spec, None, None, None, None)[:4]

    def split(array: Any) -> NamedSharding:
        images = batch if array.shape[0] == result.shape[0] else None
        return NamedSharding(mesh, PartitionSpec(images, None, None, channels))

    def local(x: jax.Array, other: jax.Array) -> jax.Array:
        return _call_images(x, other, target, result_size, dilation)

    return mesh, local, split(result), tuple(split(a) for a in arguments)


_call_images.def_partition(_partition, sharding_rule=_sharding_rule)
