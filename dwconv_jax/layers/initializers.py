"""The initializers of published networks.

`jax.nn.initializers` compile a program for every shape, which takes seconds for a whole model.
These draw pieces of one size, by one program.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.typing import Dtype

Initializer = nnx.initializers.Initializer

_PIECE = 2**15


def normal(stddev: float) -> Initializer:
    """Normally distributed around 0."""
    return _scaled(_standard_normal, lambda shape: stddev)


def uniform(bound: float) -> Initializer:
    """Uniform within `bound` of 0."""
    return _scaled(_standard_uniform, lambda shape: bound)


def variance_scaling(
    scale: float,
    mode: Literal["fan_in", "fan_out", "fan_avg"],
    distribution: Literal["normal", "uniform"],
) -> Initializer:
    """Of variance `scale / fan`, for kernels `[..., C_in, C_out]`, as in `jax.nn`."""

    def stddev(shape: Sequence[int]) -> float:
        fan_in, fan_out = (math.prod(shape[:-2]) * features for features in shape[-2:])
        fans = dict(fan_in=fan_in, fan_out=fan_out, fan_avg=(fan_in + fan_out) / 2)
        return math.sqrt(scale / max(1, fans[mode]))

    if distribution == "normal":
        return _scaled(_standard_normal, stddev)
    return _scaled(_standard_uniform, lambda shape: math.sqrt(3) * stddev(shape))


def full(shape: int | Sequence[int], value: float, dtype: Dtype = jnp.float32) -> jax.Array:
    """As `jnp.full`, but compiles nothing."""
    return jnp.asarray(np.full(shape, value, dtype), dtype)  # without the dtype it would


def constant(value: float) -> Initializer:
    """The same number everywhere."""

    def init(key: jax.Array, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
        del key, out_sharding
        return full(shape, value, dtype)

    return init


def conv_init(fan_in: int) -> Initializer:
    """PyTorch's default for convolution kernels and biases: uniform within `1 / sqrt(fan_in)`."""
    return uniform(1 / math.sqrt(fan_in))


def redraw(variable: Any, init: Initializer, *, rngs: nnx.Rngs) -> None:
    """Initializes a variable anew."""
    variable.set_value(init(rngs.params(), variable.shape, variable.dtype))


Sample = Callable[[jax.Array], jax.Array]


@jax.jit
def _standard_normal(key: jax.Array) -> jax.Array:
    return jax.random.normal(key, (_PIECE,), jnp.float32)


@jax.jit
def _standard_uniform(key: jax.Array) -> jax.Array:
    return jax.random.uniform(key, (_PIECE,), jnp.float32, -1, 1)


def _scaled(sample: Sample, scale: Callable[[Sequence[int]], float]) -> Initializer:
    def init(key: jax.Array, shape, dtype=jnp.float32, out_sharding=None) -> jax.Array:
        del out_sharding
        return jnp.asarray(_draw(sample, key, shape) * scale(shape), dtype)

    return init


def _draw(sample: Sample, key: jax.Array, shape: Sequence[int]) -> np.ndarray | jax.Array:
    """As many pieces as the shape needs: one after the other, or at once inside another program."""
    if isinstance(jax.random.key_data(key), jax.core.Tracer):
        return _draw_at_once(sample, key, tuple(shape))
    size = math.prod(shape)
    pieces = [sample(jax.random.fold_in(key, i)) for i in range(_count(size))]
    return np.concatenate(pieces)[:size].reshape(shape)


@functools.partial(jax.jit, static_argnums=(0, 2))  # traced once for each shape
def _draw_at_once(sample: Sample, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    size = math.prod(shape)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(_count(size)))
    return jax.vmap(sample)(keys).reshape(-1)[:size].reshape(shape)


def _count(size: int) -> int:
    """Pieces that hold so many numbers."""
    return -(-size // _PIECE)


# He's, by the outputs of a convolution (EfficientNet, ResNet).
fan_out_init: Initializer = variance_scaling(2.0, "fan_out", "normal")

# timm truncates at +-2 (absolute), a hundred standard deviations away, so nothing is cut.
linear_init: Initializer = normal(0.02)

zeros: Initializer = constant(0.0)
ones: Initializer = constant(1.0)

# PyTorch's default for kernels: uniform within `1 / sqrt(fan_in)`.
torch_init: Initializer = variance_scaling(1 / 3, "fan_in", "uniform")

xavier_uniform: Initializer = variance_scaling(1.0, "fan_avg", "uniform")
