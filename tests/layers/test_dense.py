"""The activation between linear layers against JAX's own."""

import jax
import jax.numpy as jnp
import pytest

from dwconv_jax.layers.dense import gelu
from tests.numerics import assert_close


def exact(x):
    return jax.nn.gelu(x.astype(jnp.float32), approximate=False)


def test_gelu_and_its_slope():
    x = jnp.linspace(-12, 12, 4001)
    assert_close(gelu(x), exact(x), 1e-6)
    assert_close(jax.vmap(jax.grad(gelu))(x), jax.vmap(jax.grad(exact))(x), 1e-6)


def test_half_precision_keeps_what_a_difference_would_lose():
    x = jnp.linspace(-4, -2, 401).astype(jnp.bfloat16)  # there 1 + erf is small
    y = gelu(x)
    assert y.dtype == jnp.bfloat16
    assert jnp.allclose(y.astype(jnp.float32), exact(x), rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_training_keeps_the_input_alone(dtype):
    x = jnp.ones((3, 5), dtype)
    _, pullback = jax.vjp(gelu, x)
    kept = [leaf for leaf in jax.tree.leaves(pullback) if leaf.shape == x.shape]
    assert [leaf.dtype for leaf in kept] == [x.dtype]
