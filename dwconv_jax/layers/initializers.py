"""The reference's two initializers: timm's for linear layers, PyTorch's for the rest."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

Initializer = nnx.initializers.Initializer

# timm truncates at +-2 (absolute), a hundred standard deviations away, so nothing is cut.
linear_init: Initializer = nnx.initializers.normal(0.02)


def conv_init(fan_in: int) -> Initializer:
    """PyTorch's default for convolution kernels and biases: uniform within `1 / sqrt(fan_in)`."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: jax.Array, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
