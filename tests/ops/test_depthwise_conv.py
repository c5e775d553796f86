"""The stand-alone convolution, function and module, against XLA's own."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from dwconv_jax import ops
from dwconv_jax.layers import DepthwiseConv
from tests.numerics import assert_close

pytestmark = pytest.mark.usefixtures("optimized")


def native(x, kernel, dilation=(1, 1)):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(1, 1),
        padding=[(d * (k - 1) // 2,) * 2 for k, d in zip(kernel.shape, dilation, strict=False)],
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def test_it_is_the_grouped_convolution(rng):
    x, kernel = (jnp.array(rng.normal(size=s), jnp.float32) for s in ((2, 6, 9, 4), (3, 5, 4)))
    assert_close(ops.depthwise_conv(x, kernel), native(x, kernel), 1e-6)
    assert_close(ops.depthwise_conv(x, kernel, (2, 1)), native(x, kernel, (2, 1)), 1e-6)


def test_sequences_and_volumes(rng):
    x = jnp.array(rng.normal(size=(2, 3, 6, 5, 4)), jnp.float32)
    kernel = jnp.array(rng.normal(size=(3, 1, 5, 4)), jnp.float32)
    middle = sum(native(x[:, t], kernel[t]) for t in range(3))
    assert_close(ops.depthwise_conv(x, kernel)[:, 1], middle, 1e-6)
    sequence = x.reshape(2, 90, 4)
    padded = jnp.pad(sequence, ((0, 0), (2, 0), (0, 0)))
    expected = sum(padded[:, t : t + 90] * kernel[None, t, 0, :1] for t in range(3))
    assert_close(ops.depthwise_conv(sequence, kernel[:, 0, 0], causal=True), expected, 1e-6)


def test_cyclic_maps(rng):
    x, kernel = (jnp.array(rng.normal(size=s), jnp.float32) for s in ((2, 6, 7, 4), (3, 5, 4)))
    around = jnp.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0)), mode="wrap")
    cyclic = ops.depthwise_conv(x, kernel, border="wrap")
    assert_close(cyclic, native(around, kernel)[:, 1:-1, 2:-2], 1e-6)


def test_sequences_are_maps_of_height_one(rng):
    x = jnp.array(rng.normal(size=(2, 9, 4)), jnp.float32)
    shift = jnp.zeros((3, 4)).at[2].set(1)
    y = ops.depthwise_conv(x[:, None], shift[None])[:, 0]
    assert_close(y, jnp.pad(x, ((0, 0), (0, 1), (0, 0)))[:, 1:], 1e-7)


@pytest.mark.parametrize(
    ("kernel", "dilation", "message"),
    [
        ((3, 3, 5), 1, r"kernel must be \[kh, kw, 4\], got shape \(3, 3, 5\)"),
        ((3, 4), 1, r"kernel must be \[kh, kw, 4\]"),
        ((3, 3, 4), 0, "dilation must be an int >= 1"),
    ],
)
def test_wrong_arguments_are_named(kernel, dilation, message):
    with pytest.raises(ValueError, match=message):
        ops.depthwise_conv(jnp.zeros((1, 4, 4, 4)), jnp.zeros(kernel), dilation)


def test_the_module_convolves_and_adds_its_bias(rng):
    x = jnp.array(rng.normal(size=(2, 5, 6, 4)), jnp.float32)
    layer = DepthwiseConv(4, (3, 5), dilation=2, rngs=nnx.Rngs(0))
    bias = layer.bias[...][None, None, None]
    assert_close(layer(x), native(x, layer.kernel[...], (2, 2)) + bias, 1e-6)
    assert abs(layer.kernel[...]).max() <= 15**-0.5
    assert not jnp.array_equal(layer.bias[...], jnp.zeros(4))


def test_the_module_takes_sequences_and_volumes(rng):
    for size, kernel_size, more in (((9,), (4,), dict(causal=True)), ((3, 4, 5), (3, 1, 3), {})):
        layer = DepthwiseConv(4, kernel_size, **more, rngs=nnx.Rngs(0))
        x = jnp.array(rng.normal(size=(2, *size, 4)), jnp.float32)
        bias = layer.bias[...].reshape((1,) * (x.ndim - 1) + (4,))
        assert_close(layer(x), ops.depthwise_conv(x, layer.kernel[...], **more) + bias, 1e-6)


def test_the_module_without_bias_computes_in_its_dtype():
    layer = DepthwiseConv(4, 3, use_bias=False, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    y = layer(jnp.ones((1, 4, 4, 4)))
    assert y.dtype == jnp.bfloat16
    assert layer.kernel[...].dtype == jnp.float32
    assert len(jax.tree.leaves(nnx.state(layer))) == 1


def test_the_module_refuses_other_channels():
    with pytest.raises(ValueError, match="kernel must be"):
        DepthwiseConv(4, 3, rngs=nnx.Rngs(0))(jnp.ones((1, 4, 4, 5)))
