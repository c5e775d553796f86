"""Convolutions in their fast forms equal XLA's, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from dwconv_jax.layers.convolution import convolve

CASES = {
    "3x3 of pictures, stride 2": ((3, 3, 3, 5), 2, [(1, 1), (1, 1)], 1),
    "the same as TensorFlow pads": ((3, 3, 3, 5), 2, "SAME", 1),
    "uneven sides": ((2, 3, 3, 4), (1, 2), [(0, 2), (1, 0)], 1),
    "dilated": ((3, 3, 3, 5), 1, "SAME", 2),
    "1x1": ((1, 1, 12, 5), 1, [(0, 0), (0, 0)], 1),
    "1x1, stride 2": ((1, 1, 12, 5), 2, "VALID", 1),
    "1x1, padded": ((1, 1, 12, 5), 1, [(1, 0), (0, 2)], 1),
    "many channels": ((3, 3, 12, 5), 1, "SAME", 1),
    "5x5": ((5, 5, 12, 5), 1, "SAME", 1),
    "2x4": ((2, 4, 12, 5), 1, [(0, 1), (2, 1)], 1),
    "many channels, smaller": ((3, 3, 12, 5), 1, "VALID", 1),
    "many channels, stride 2": ((3, 3, 12, 5), 2, [(1, 1), (1, 1)], 1),
    "many channels, stride of columns": ((3, 3, 12, 5), (1, 2), [(1, 1), (1, 1)], 1),
}


@pytest.mark.parametrize("height", [9, 7], ids=["tall", "wide"])
@pytest.mark.parametrize("name", CASES)
def test_equals_lax(rng, name, height):
    shape, strides, padding, dilation = CASES[name]
    x = jnp.asarray(rng.normal(size=(2, height, 8, shape[2])), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=shape), jnp.float32)
    pair = (strides, strides) if isinstance(strides, int) else strides
    conv = nnx.Conv(
        shape[2], shape[3], shape[:2], strides=pair, padding=padding, kernel_dilation=dilation,
        use_bias=False, conv_general_dilated=convolve, rngs=nnx.Rngs(0),
    )  # fmt: skip
    graph, state = nnx.split(conv)

    def ours(x, kernel):
        layer = nnx.merge(graph, state, copy=True)
        layer.kernel.set_value(kernel)
        return layer(x)

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, pair, padding,
            rhs_dilation=(dilation, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    expected, pull = jax.vjp(plain, x, kernel)
    actual, pull_ours = jax.vjp(jax.jit(ours), x, kernel)
    cotangent = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    for gradient, wanted in zip(pull_ours(cotangent), pull(cotangent), strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "stride", "convolutions"), [(3, 1, 0), (12, 2, 0), (12, 1, 1)]
)
def test_convolutions_of_few_inputs_or_with_strides_are_products_on_cpu(
    channels, stride, convolutions
):
    conv = nnx.Conv(
        channels, 4, (3, 3), strides=stride, conv_general_dilated=convolve, rngs=nnx.Rngs(0)
    )
    graph, state = nnx.split(conv)
    x = jnp.ones((1, 8, 8, channels))
    compiled = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, x).compile()
    assert compiled.as_text().count(" convolution(") == convolutions


def compiled_gradients(**options):
    conv = nnx.Conv(32, 32, (3, 3), use_bias=False, rngs=nnx.Rngs(0), **options)
    graph, state = nnx.split(conv)

    def loss(state, x):
        return nnx.merge(graph, state)(x).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))
    return gradients.lower(state, jnp.ones((2, 16, 16, 32))).compile().as_text()


def test_library_of_slow_gradients_is_avoided_on_cpu():
    assert "ynn_fusion" in compiled_gradients()
    text = compiled_gradients(conv_general_dilated=convolve)
    assert "ynn_fusion" not in text
    assert text.count(" convolution(") == 2
