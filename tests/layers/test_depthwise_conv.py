"""Depth-wise convolution as a module: strides and padding as in JAX and in PyTorch."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from dwconv_jax import DepthwiseConv
from dwconv_jax.errors import UserError
from tests.numerics import assert_close


@pytest.mark.parametrize("padding", ["SAME", "SYMMETRIC"])
@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), [(3, 2, 1), (5, 3, 1), (3, 2, 2)])
def test_strides(padding, kernel_size, stride, dilation):
    for size in ((8, 9), (7, 12)):
        x = jax.random.normal(jax.random.key(0), (2, *size, 4))
        conv = DepthwiseConv(
            4, kernel_size, stride=stride, padding=padding, dilation=dilation, rngs=nnx.Rngs(0)
        )
        reach = dilation * (kernel_size // 2)
        expected = lax.conv_general_dilated(
            x,
            conv.kernel[...][:, :, None],
            (stride, stride),
            "SAME" if padding == "SAME" else [(reach, reach)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
        )
        assert_close(conv(x), expected + conv.bias[...].reshape(1, 1, 1, 4), 1e-5)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="stride must be an int >= 1"):
        DepthwiseConv(4, 3, stride=0, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="padding must be one of 'SAME', 'SYMMETRIC', got 'same'"):
        DepthwiseConv(4, 3, padding="same", rngs=nnx.Rngs(0))
    assert DepthwiseConv(4, (4,), causal=True, rngs=nnx.Rngs(0))(jnp.ones((1, 5, 4))).shape[1] == 5
