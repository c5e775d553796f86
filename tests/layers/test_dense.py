"""Products over channels and the activation between them against JAX's own."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from dwconv_jax.layers.dense import gelu, linear, product_over_channels
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


@pytest.mark.parametrize("leading", [(), (3,), (2, 3, 4)])
def test_a_linear_layer_is_flax_s(leading):
    layer, plain = (make(5, 6, rngs=nnx.Rngs(0)) for make in (linear, nnx.Linear))
    plain.kernel.set_value(layer.kernel[...])
    x = jax.random.normal(jax.random.key(0), (*leading, 5))

    def slopes(layer, x):
        return nnx.grad(lambda layer, x: jnp.sum(jnp.sin(layer(x))), argnums=(0, 1))(layer, x)

    with jax.default_matmul_precision("highest"):
        assert layer(x).shape == plain(x).shape
        assert_close(layer(x), plain(x), 1e-6)
        for ours, theirs in zip(
            jax.tree.leaves(slopes(layer, x)), jax.tree.leaves(slopes(plain, x)), strict=True
        ):
            assert_close(ours, theirs, 1e-6)


def multiply(x, kernel):
    return product_over_channels(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def test_the_kernel_s_gradient_leaves_maps_as_they_are_on_cpu():
    x, g, kernel = jnp.ones((3, 4, 4, 16)), jnp.ones((3, 4, 4, 32)), jnp.ones((16, 32))

    def turned(product):
        gradient = jax.jit(lambda x, g: jax.vjp(lambda k: product(x, k), kernel)[1](g))
        text = gradient.lower(x, g).compile().as_text()
        return "f32[32,48]" in text  # the cotangent, channels first

    if not turned(jnp.matmul):
        pytest.skip("this XLA turns nothing around: `product_over_channels` has had its day")
    assert not turned(multiply)


def test_other_platforms_multiply_maps():
    x, kernel = jnp.ones((2, 4, 4, 16)), jnp.ones((16, 32))
    lowered = jax.jit(multiply).trace(x, kernel).lower(lowering_platforms=("tpu",))
    assert "dot_general" in lowered.as_text() and "reshape" not in lowered.as_text()


def test_bfloat16_is_multiplied_into_float32_on_cpu():
    x, kernel = jnp.ones((2, 3, 5), jnp.bfloat16), jnp.ones((5, 7), jnp.bfloat16)
    text = jax.jit(multiply).lower(x, kernel).as_text()
    assert "(tensor<6x5xbf16>, tensor<5x7xbf16>) -> tensor<6x7xf32>" in text
    y, pullback = jax.vjp(multiply, x, kernel)
    assert [a.dtype for a in (y, *pullback(y))] == [jnp.bfloat16] * 3


def test_forward_mode():
    x, kernel = jnp.ones((2, 3, 5)), jnp.ones((5, 7))
    y, slope = jax.jvp(multiply, (x, kernel), (x, kernel))
    assert_close(slope, 2 * y, 1e-6)
