"""Depth-wise convolution over one, two or three axes, each with a border of its own."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.connectivity.sliding import SlidingAxis
from dwconv_jax.ops.lowerings.depthwise import depthwise
from dwconv_jax.ops.lowerings.selection import Lowering

_SINGLE = SlidingAxis(1, 1, 1, "zero", False)


def convolution(
    x: jax.Array, kernel: jax.Array, axes: list[SlidingAxis], lowering: Lowering = "auto"
) -> jax.Array:
    """Convolves every channel with its own kernel, by two-dimensional convolutions.

    Args:
      x: `[B, *spatial, C]`.
      kernel: `[B or 1, *kernel_size, C]`.
      axes: the kernel along each axis, at fixed offsets.
      lowering: see `depthwise`.

    Returns:
      `[B, *spatial, C]`.
    """
    if len(axes) == 1:
        return convolution(x[:, None], kernel[:, None], [_SINGLE, *axes], lowering)[:, 0]
    if len(axes) == 3:
        return _slab_by_slab(x, kernel, axes, lowering)
    places = []
    for i, axis in enumerate(axes, start=1):
        left, right = axis.reach
        if axis.border == "zero" and left == right:  # as `depthwise` pads by itself
            places.append((0, x.shape[i]))
            continue
        places.append((axis.dilation * (axis.kernel_size // 2), x.shape[i]))
        x = extend(x, i, axis)
        if axis.kernel_size % 2 == 0:
            kernel = _with_last(kernel, i)
    y = depthwise(x, kernel, (axes[0].dilation, axes[1].dilation), lowering)
    (top, height), (left, width) = places
    return y[:, top : top + height, left : left + width]


def _slab_by_slab(
    x: jax.Array, kernel: jax.Array, axes: list[SlidingAxis], lowering: Lowering
) -> jax.Array:
    """Sums two-dimensional convolutions, one for each tap of the first of three axes."""
    batch, depth, *rest = x.shape
    first, *others = axes
    extended = extend(x, 1, first)

    def tap(index: int) -> jax.Array:
        slabs = lax.slice_in_dim(
            extended, index * first.dilation, index * first.dilation + depth, 1, 1
        )
        own = kernel[:, index] if len(kernel) == 1 else jnp.repeat(kernel[:, index], depth, axis=0)
        return convolution(slabs.reshape(batch * depth, *rest), own, others, lowering)

    total = functools.reduce(jnp.add, map(tap, range(first.kernel_size)))
    return total.reshape(x.shape)


def extend(x: jax.Array, axis: int, along: SlidingAxis) -> jax.Array:
    """The map with what a kernel sees beyond it: zeros, or the other end of a cyclic axis."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = along.reach
    return jnp.pad(x, padding, mode="wrap" if along.border == "wrap" else "constant")


def _with_last(kernel: jax.Array, axis: int) -> jax.Array:
    """An even kernel as an odd one, whose last tap is zero."""
    padding = [(0, 0)] * kernel.ndim
    padding[axis] = (0, 1)
    return jnp.pad(kernel, padding)
