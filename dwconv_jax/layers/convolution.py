"""Convolution for `nnx.Conv`, in the forms that XLA computes fast on CPUs."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.layers.dense import product_over_channels
from dwconv_jax.ops.sharding import by_xla, split_of

_MOST_COLUMNS = 64


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: tuple[int, int],
    rhs_dilation: tuple[int, int],
    precision: Any,
    out_sharding: Any,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` for `nnx.Conv`; on a mesh with explicit axes, split by images.

    A 1x1 convolution is a matrix product, whose gradient XLA:CPU computes 5 times faster. On CPUs,
    so is one of few inputs, such as a picture's, or with a stride: the kernel times all that an
    output sees. One that keeps the map's size computes an extra row; see `_with_extra_row`.
    """
    del out_sharding
    if isinstance(padding, str):
        sizes = zip(kernel.shape[:2], rhs_dilation, strict=True)
        dilated = [(size - 1) * step + 1 for size, step in sizes]
        padding = lax.padtype_to_pads(x.shape[1:3], dilated, strides, padding)
    conv = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        precision=precision,
        **options,
    )
    by_product = functools.partial(_product, strides=strides, padding=padding, precision=precision)
    height, width, channels = kernel.shape[:3]
    if channels == x.shape[-1] and {*lhs_dilation, *rhs_dilation} == {1}:
        if (height, width) == (1, 1):
            return by_product(x, kernel)
        if height * width * channels <= _MOST_COLUMNS or min(strides) > 1:
            conv = functools.partial(lax.platform_dependent, cpu=by_product, default=conv)
        elif max(strides) == 1 < min(height, width) and _keeps_size(kernel, padding):
            on_cpu = functools.partial(
                _with_extra_row, padding=padding, precision=precision, **options
            )
            conv = functools.partial(lax.platform_dependent, cpu=on_cpu, default=conv)
    return by_xla(conv, x, kernel, split=(split_of(x)[0], None, None, None))


def _product(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]],
    precision: Any,
) -> jax.Array:
    """The convolution as a product with the inputs that each output sees."""
    height, width, channels, features = kernel.shape
    if any(side for sides in padding for side in sides):
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    (rows, columns), (down, right) = x.shape[1:3], strides
    seen = [
        x[:, i : rows - height + i + 1 : down, j : columns - width + j + 1 : right]
        for i in range(height)
        for j in range(width)
    ]
    weights = kernel.reshape(height * width * channels, features)
    dimensions = (((3,), (0,)), ((), ()))
    inputs = jnp.concatenate(seen, -1)
    return product_over_channels(inputs, weights, dimensions, precision=precision)


def _keeps_size(kernel: jax.Array, padding: Sequence[tuple[int, int]]) -> bool:
    return all(
        sum(sides) + 1 == size for sides, size in zip(padding, kernel.shape[:2], strict=True)
    )


def _with_extra_row(
    x: jax.Array, kernel: jax.Array, *, padding: Sequence[tuple[int, int]], **options: Any
) -> jax.Array:
    """A convolution that keeps the map's size; computes an extra row (column, if the map is wide).

    XLA:CPU hands convolutions to YNNPACK, whose gradient of the kernel is several times slower than
    Eigen's, unless the output or the kernel is larger than the input along some axis. With an extra
    row, on a map whose columns are padded first, that holds for the convolution and both gradients.
    """
    longer = 0 if x.shape[1] >= x.shape[2] else 1
    before, after = padding[longer]
    beforehand, rest = list(padding), [(0, 0), (0, 0)]
    beforehand[longer], rest[longer] = (0, 0), (before, after + 1)
    padded = jnp.pad(x, ((0, 0), *beforehand, (0, 0)))
    y = lax.conv_general_dilated(padded, kernel, (1, 1), rest, **options)
    return lax.slice_in_dim(y, 0, x.shape[1 + longer], axis=1 + longer)
