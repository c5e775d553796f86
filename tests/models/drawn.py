"""Models without a run of their initialisers, which compile a program for every shape."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def drawn(make: Callable[[], nnx.Module]) -> nnx.Module:
    """What `make` makes, with kernels drawn with NumPy, norms that do nothing and no biases."""
    model, rng = nnx.eval_shape(make), np.random.default_rng(0)
    state = nnx.state(model)

    def fill(path: tuple, variable: nnx.Variable) -> jax.Array:
        shape, name = variable.get_value().shape, path[-1]
        if name == "kernel":
            fan_in = math.prod(shape[:-1])
            values = rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(fan_in))
        else:
            values = np.full(shape, name in ("scale", "var"), np.float32)
        return jnp.asarray(values)

    nnx.update(model, nnx.map_state(fill, state))
    return model
