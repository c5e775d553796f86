"""Initializers: the distribution for any shape, in and out of compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.layers import initializers

KEY = jax.random.key(0)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_variance_scaling_has_the_variance_of_jax(mode, distribution):
    shape = (3, 3, 96, 64)
    ours = initializers.variance_scaling(2.0, mode, distribution)(KEY, shape)
    expected = nnx.initializers.variance_scaling(2.0, mode, distribution)(KEY, shape, jnp.float32)
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    np.testing.assert_allclose(ours.std(), expected.std(), rtol=0.02)
    np.testing.assert_allclose(ours.mean(), 0, atol=0.02 * float(expected.std()))
    if distribution == "uniform":
        np.testing.assert_allclose(abs(ours).max(), abs(expected).max(), rtol=1e-3)


@pytest.mark.parametrize("shape", [(), (5,), (200, 300)])
def test_compiled_programs_draw_the_same(shape):
    init = initializers.normal(0.5)
    np.testing.assert_allclose(
        jax.jit(init, static_argnums=1)(KEY, shape), init(KEY, shape), rtol=1e-6
    )


def test_constants_compile_nothing(caplog):
    with jax.log_compiles():
        values = initializers.zeros(KEY, (3, 41)), initializers.ones(KEY, (43,), jnp.bfloat16)
    assert [v.dtype for v in values] == [jnp.float32, jnp.bfloat16]
    assert not values[0].any() and (values[1] == 1).all()
    assert "ompil" not in caplog.text
    with jax.log_compiles():
        jnp.zeros((3, 41))
    assert "ompil" in caplog.text


def test_no_two_pieces_are_alike():
    values = np.asarray(initializers.uniform(1.0)(KEY, (100, 1000)))
    assert len(np.unique(values)) > 99_000


def test_mapped_keys_draw_for_each_layer():
    keys = jax.random.split(KEY, 2)
    init = initializers.normal(1.0)
    stacked = jax.vmap(lambda key: init(key, (4, 5)))(keys)
    np.testing.assert_allclose(stacked[1], init(keys[1], (4, 5)), rtol=1e-6)


def test_values_have_the_dtype_of_the_parameter():
    assert initializers.conv_init(9)(KEY, (3, 3), jnp.bfloat16).dtype == jnp.bfloat16
