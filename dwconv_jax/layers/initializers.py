"""The initializers of published networks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Initializer = nnx.initializers.Initializer

# He's, by the outputs of a convolution (EfficientNet, ResNet).
fan_out_init: Initializer = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")

# timm truncates at +-2 (absolute), a hundred standard deviations away, so nothing is cut.
linear_init: Initializer = nnx.initializers.normal(0.02)


# PyTorch's default for kernels: uniform within `1 / sqrt(fan_in)`.
torch_init: Initializer = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv_init(fan_in: int) -> Initializer:
    """PyTorch's default for convolution kernels and biases: uniform within `1 / sqrt(fan_in)`."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: jax.Array, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def redraw(variable: Any, init: Initializer, *, rngs: nnx.Rngs) -> None:
    """Initializes a variable anew."""
    variable.set_value(init(rngs.params(), variable.shape, variable.dtype))
