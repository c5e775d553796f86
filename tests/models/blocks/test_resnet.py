"""Max pooling against Flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.models.blocks.resnet import max_pool


@jax.jit
def both(x, g):
    def flax(x):
        return nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

    def value_and_gradient(pool):
        y, pull = jax.vjp(pool, x)
        return y, pull(g)[0]

    return value_and_gradient(max_pool), value_and_gradient(flax)


@pytest.mark.parametrize("size", [(7, 8), (1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_gradients(rng, size, dtype):
    x = jnp.array(rng.integers(0, 4, size=(2, *size, 3)), dtype)  # many equal neighbors
    g = jnp.array(rng.integers(1, 9, size=(2, *(-(-n // 2) for n in size), 3)), dtype)
    ours, flax = both(x, g)
    for actual, expected in zip(ours, flax, strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)


def test_what_is_no_number_stays():
    x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2].set(jnp.nan)
    assert np.isnan(max_pool(x)).sum() == 1
    assert np.isnan(max_pool(x[:, 1:, 1:])).sum() == 4
