"""Linear maps use the transpose they were given, under every transformation."""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.lowerings.linear_map import linear_map
from tests.numerics import assert_close

R, X = jnp.array([2.0, 3.0]), jnp.array([5.0, 7.0])


def times(r, x):
    return {"product": r["factor"] * x}


def marked_transpose(r, g):  # ten times the true one, to be recognized
    return 10 * r["factor"] * g["product"]


def scale(r, x):
    return linear_map(times, marked_transpose, {"factor": r}, x)["product"]


def test_it_calls_the_function_and_differentiates_in_everything():
    assert_close(scale(R, X), R * X, 1e-7)
    _, tangent = jax.jvp(scale, (R, X), (jnp.ones(2), 2 * jnp.ones(2)))
    assert_close(tangent, X + 2 * R, 1e-7)


def test_its_transpose_is_the_one_given_and_has_the_function_as_its_own():
    def transposed(g):
        return jax.linear_transpose(lambda x: scale(R, x), X)(g)[0]

    assert_close(transposed(X), 10 * R * X, 1e-7)
    assert_close(jax.linear_transpose(transposed, X)(X)[0], R * X, 1e-7)


def test_it_vmaps_whatever_is_mapped():
    many = jnp.stack([X, 2 * X, 3 * X])
    pull = jax.grad(lambda r, x: scale(r, x).sum(), argnums=1)
    assert_close(jax.vmap(scale, (None, 0))(R, many), R[None] * many, 1e-7)
    assert_close(jax.vmap(scale, (0, None))(many, X), X[None] * many, 1e-7)
    assert_close(jax.vmap(pull, (0, None))(many, X), 10 * many, 1e-7)
    total = jax.grad(lambda x: jax.vmap(scale, (0, None))(many, x).sum())(X)
    assert_close(total, 10 * many.sum(0), 1e-7)


def test_gradients_of_gradients_reach_the_residuals():
    pull = jax.grad(lambda x, r: scale(r, x).sum())
    assert_close(jax.grad(lambda r: pull(X, r).sum())(R), jnp.array([10.0, 10.0]), 1e-7)
