"""Depth-wise convolution as a module."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax import ops
from dwconv_jax.layers.initializers import conv_init
from dwconv_jax.ops.checks import check_map
from dwconv_jax.ops.connectivity import Pair, Sliding


class DepthwiseConv(nnx.Module):
    """`nnx.Conv(features, features, feature_group_count=features)`, fast on CPU too.

    Stride 1, zero padding, same size; initialized as PyTorch's `Conv2d`. For sequences, use maps of
    height 1 and a kernel `(1, k)`.
    """

    def __init__(
        self,
        features: int,
        kernel_size: int | Pair,
        *,
        dilation: int | Pair = 1,
        use_bias: bool = True,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates `kernel[kh, kw, features]` and, if wanted, `bias[features]`.

        Args:
          features: channels.
          kernel_size: of the kernel, an int or `(height, width)`.
          dilation: rows and columns between taps.
          use_bias: whether to add a bias to each channel.
          dtype: of the computation; None keeps the input's.
          param_dtype: of the parameters.
          rngs: initialization keys.

        Raises:
          UserError: for an even kernel with an odd dilation, which has no center.
        """
        connectivity = Sliding(kernel_size, dilation)
        self.dilation, self.dtype = connectivity.dilation, dtype
        height, width = connectivity.kernel_size
        init = conv_init(height * width)
        self.kernel = nnx.Param(init(rngs.params(), (height, width, features), param_dtype))
        self.bias = nnx.data(
            nnx.Param(init(rngs.params(), (features,), param_dtype)) if use_bias else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, features]` to `[B, H, W, features]`, in `dtype` or that of `x`."""
        check_map(x)
        x = x.astype(self.dtype or x.dtype)
        y = ops.depthwise_conv(x, self.kernel[...].astype(x.dtype), self.dilation)
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)[None, None, None]
