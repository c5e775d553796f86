"""Depth-wise convolution as a module."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax import ops
from dwconv_jax.layers.initializers import conv_init
from dwconv_jax.ops.connectivity import Border, Size, Sliding


class DepthwiseConv(nnx.Module):
    """`nnx.Conv(features, features, feature_group_count=features)`, fast on CPU too.

    Over one, two or three axes; stride 1 and same size; initialized as PyTorch's `Conv2d`.
    """

    def __init__(
        self,
        features: int,
        kernel_size: int | Size,
        *,
        dilation: int | Size = 1,
        border: Border | tuple[Border, ...] = "zero",
        causal: bool | tuple[bool, ...] = False,
        use_bias: bool = True,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates `kernel[*kernel_size, features]` and, if wanted, `bias[features]`.

        Args:
          features: channels.
          kernel_size: of the kernel, an int for two axes, or a tuple with one for each.
          dilation: positions between taps.
          border: what lies beyond the map; see `ops.Sliding`.
          causal: whether positions see only themselves and those before them.
          use_bias: whether to add a bias to each channel.
          dtype: of the computation; None keeps the input's.
          param_dtype: of the parameters.
          rngs: initialization keys.

        Raises:
          UserError: for an illegal value; see `ops.Sliding`.
        """
        self.connectivity = Sliding(kernel_size, dilation, border=border, causal=causal)
        self.dtype = dtype
        size = self.connectivity.kernel_size
        init = conv_init(math.prod(size))
        self.kernel = nnx.Param(init(rngs.params(), (*size, features), param_dtype))
        self.bias = nnx.data(
            nnx.Param(init(rngs.params(), (features,), param_dtype)) if use_bias else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, *spatial, features]` to the same, in `dtype` or that of `x`."""
        x = x.astype(self.dtype or x.dtype)
        sliding = self.connectivity
        y = ops.depthwise_conv(
            x,
            self.kernel[...].astype(x.dtype),
            sliding.dilation,
            border=sliding.border,
            causal=sliding.causal,
        )
        if self.bias is None:
            return y
        return y + jnp.expand_dims(self.bias[...].astype(y.dtype), range(y.ndim - 1))
