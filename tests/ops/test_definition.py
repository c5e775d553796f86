"""The oracle itself, against the equation written as loops, and known layers."""

import jax.numpy as jnp
import numpy as np

from dwconv_jax import ops
from tests.numerics import assert_close


def test_it_is_the_equation(rng):
    x = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    weights = rng.normal(size=(2, 12, 1, 9, 3)).astype(np.float32)
    expected = np.zeros_like(x)
    for b, i, j, c in np.ndindex(2, 3, 4, 6):
        for r, s in np.ndindex(3, 3):
            row, col = i + r - 1, j + s - 1
            if 0 <= row < 3 and 0 <= col < 4:
                w = weights[b, i * 4 + j, 0, r * 3 + s, c // 2]
                expected[b, i, j, c] += w * x[b, row, col, c]
    actual = ops.definition.locally_connected(jnp.array(x), jnp.array(weights), ops.Sliding(3))
    assert_close(actual, expected, 1e-6)


def test_one_hot_weights_move_pixels(rng):
    x = jnp.array(rng.normal(size=(1, 4, 4, 2)), jnp.float32)
    right_neighbour = jnp.zeros((1, 1, 1, 9, 1)).at[..., 5, :].set(1)
    y = ops.definition.locally_connected(x, right_neighbour, ops.Sliding(3))
    assert_close(y, jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, 1:], 1e-7)


def test_a_window_mean_is_constant_in_each_window(rng):
    x = jnp.array(rng.normal(size=(1, 4, 6, 2)), jnp.float32)
    y = ops.definition.locally_connected(x, jnp.full((1, 1, 4, 4, 1), 0.25), ops.Window(2))
    means = x.reshape(1, 2, 2, 3, 2, 2).mean((2, 4))
    assert_close(y, means.repeat(2, axis=1).repeat(2, axis=2), 1e-6)
