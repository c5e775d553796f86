"""Products over channels: linear layers as timm initialises them, 1x1 convolutions as PyTorch."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from dwconv_jax.layers.initializers import conv_init, linear_init


def linear(in_features: int, out_features: int, *, rngs: nnx.Rngs, **kwargs: Any) -> nnx.Linear:
    """A linear layer with normal(0.02) weights and zero bias."""
    return nnx.Linear(in_features, out_features, kernel_init=linear_init, rngs=rngs, **kwargs)


def pointwise(in_features: int, out_features: int, *, rngs: nnx.Rngs, **kwargs: Any) -> nnx.Linear:
    """A 1x1 convolution, `[..., C_in]` to `[..., C_out]`, initialised as PyTorch's `Conv2d`."""
    init = conv_init(in_features)
    return nnx.Linear(
        in_features, out_features, kernel_init=init, bias_init=init, rngs=rngs, **kwargs
    )


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU in float32, the shape and dtype of `x`; training keeps `x` alone.

    By `erf`, as PyTorch has it: the `erfc` of `jax.nn.gelu` costs a CPU twice as much.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1 + lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


class Mlp(nnx.Module):
    """Linear, exact GELU, linear (paper section 4.1; the transformer's feed-forward part)."""

    def __init__(self, features: int, hidden_features: int, *, rngs: nnx.Rngs, **dtypes: Any):
        self.fc1 = linear(features, hidden_features, rngs=rngs, **dtypes)
        self.fc2 = linear(hidden_features, features, rngs=rngs, **dtypes)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., C]` to `[..., C]`."""
        return self.fc2(gelu(self.fc1(x)))
