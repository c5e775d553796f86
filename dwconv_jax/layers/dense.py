"""Linear layers, initialized as in timm, and 1x1 convolutions, initialized as in PyTorch."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.initializers import conv_init, linear_init, zeros
from dwconv_jax.ops.sharding import by_xla, split_of


def product_over_channels(
    x: jax.Array,
    kernel: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    *,
    preferred_element_type: Any = None,
    **options: Any,
) -> jax.Array:
    """`lax.dot_general` for `nnx.Linear`; on CPU on flattened rows, which speeds up its gradient.

    For maps, XLA:CPU transposes the whole cotangent to compute the kernel's gradient, which takes
    up to three times as long. TPUs have layouts for maps that rows would break up.

    Args:
      x: `[..., C_in]`.
      kernel: `[C_in, C_out]`.
      dimension_numbers: those of the product over the last axis of `x`.
      preferred_element_type: dtype of the result; None for that of `x` and `kernel`.
      **options: for `lax.dot_general`.

    Returns:
      `[..., C_out]`.
    """

    dtype = preferred_element_type or jnp.result_type(x, kernel)

    def by_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
        rows = x.reshape(-1, x.shape[-1])
        # XLA:CPU has products of bfloat16 into float32; into bfloat16 takes three times as long.
        wide = jnp.promote_types(dtype, jnp.float32)
        columns = (((1,), (0,)), ((), ()))
        y = lax.dot_general(rows, kernel, columns, preferred_element_type=wide, **options)
        return y.reshape(*x.shape[:-1], kernel.shape[-1]).astype(dtype)

    def of_maps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.dot_general(
            x, kernel, dimension_numbers, preferred_element_type=dtype, **options
        )

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, kernel, cpu=by_rows, default=of_maps)

    *rows, _ = split_of(x)
    columns = split_of(kernel)[-1]
    split = (*rows, None if columns in rows else columns)
    return by_xla(product, x, kernel, split=split)


_linear = functools.partial(
    nnx.Linear, dot_general=product_over_channels, promote_dtype=keep_input_dtype
)


def linear(in_features: int, out_features: int, *, rngs: nnx.Rngs, **kwargs: Any) -> nnx.Linear:
    """A linear layer with normal(0.02) weights and zero bias."""
    return _linear(
        in_features, out_features, kernel_init=linear_init, bias_init=zeros, rngs=rngs, **kwargs
    )


def pointwise(in_features: int, out_features: int, *, rngs: nnx.Rngs, **kwargs: Any) -> nnx.Linear:
    """A 1x1 convolution, `[..., C_in]` to `[..., C_out]`, initialized as PyTorch's `Conv2d`."""
    init = conv_init(in_features)
    return _linear(in_features, out_features, kernel_init=init, bias_init=init, rngs=rngs, **kwargs)


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU in float32, the shape and dtype of `x`; training keeps `x` alone.

    Computed by `erf`, as in PyTorch: the `erfc` of `jax.nn.gelu` takes twice as long on CPU.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1 + lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


@jax.checkpoint
def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU approximated by `tanh` (TensorFlow's) in float32; training keeps `x` alone."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=True).astype(x.dtype)


class Mlp(nnx.Module):
    """Linear, GELU, linear (paper section 4.1; the transformer's feed-forward part).

    The GELU is exact, or with `approximate` that by `tanh`.
    """

    def __init__(
        self,
        features: int,
        hidden_features: int,
        *,
        approximate: bool = False,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.approximate = approximate
        self.fc1 = linear(features, hidden_features, rngs=rngs, **dtypes)
        self.fc2 = linear(hidden_features, features, rngs=rngs, **dtypes)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., C]` to `[..., C]`."""
        hidden = self.fc1(x)
        return self.fc2(gelu_tanh(hidden) if self.approximate else gelu(hidden))
