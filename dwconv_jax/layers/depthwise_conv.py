"""Depth-wise convolution as a module."""

import math
import typing
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax import ops
from dwconv_jax.layers.initializers import conv_init
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.ops.connectivity import Border, Size, Sliding, per_axis

Padding = Literal["SAME", "SYMMETRIC"]


class DepthwiseConv(nnx.Module):
    """`nnx.Conv(features, features, feature_group_count=features)`, fast on CPU too.

    Over one, two or three axes; initialized as PyTorch's `Conv2d`.
    """

    def __init__(
        self,
        features: int,
        kernel_size: int | Size,
        *,
        stride: int | Size = 1,
        padding: Padding = "SAME",
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
          stride: positions between outputs.
          padding: where a stride begins: as with "SAME" in JAX and TensorFlow, or "SYMMETRIC", as
            with `padding=kernel_size // 2` in PyTorch. Without a stride both keep the size.
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
        check_choice("padding", padding, typing.get_args(Padding))
        self.connectivity = Sliding(kernel_size, dilation, border=border, causal=causal)
        self.dtype, self.padding = dtype, padding
        size = self.connectivity.kernel_size
        self.stride = per_axis("stride", stride, 1, len(size))
        init = conv_init(math.prod(size))
        self.kernel = nnx.Param(init(rngs.params(), (*size, features), param_dtype))
        self.bias = nnx.data(
            nnx.Param(init(rngs.params(), (features,), param_dtype)) if use_bias else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, *spatial, features]` to `[B, *ceil(spatial / stride), features]`.

        The dtype of the result is the layer's, or that of `x`.
        """
        x = x.astype(self.dtype or x.dtype)
        sliding = self.connectivity
        y = ops.depthwise_conv(
            x,
            self.kernel[...].astype(x.dtype),
            sliding.dilation,
            border=sliding.border,
            causal=sliding.causal,
        )
        if any(step > 1 for step in self.stride):
            # On CPU all outputs, of which most are dropped, take less time than XLA's strided
            # convolution, its gradients a tenth.
            y = y[(slice(None), *map(slice, self._first(x.shape), x.shape[1:-1], self.stride))]
        if self.bias is None:
            return y
        return y + jnp.expand_dims(self.bias[...].astype(y.dtype), range(y.ndim - 1))

    def _first(self, shape: Size) -> Size:
        """The position of the first output on each axis."""
        if self.padding == "SYMMETRIC":
            return (0,) * len(self.stride)
        reaches = [
            d * (k - 1)
            for d, k in zip(self.connectivity.dilation, self.connectivity.kernel_size, strict=True)
        ]
        # "SAME" pads by what the last output needs, half of it (rounded down) on the left.
        pads = [
            max((-(-n // s) - 1) * s + reach + 1 - n, 0)
            for n, s, reach in zip(shape[1:-1], self.stride, reaches, strict=True)
        ]
        return tuple(reach // 2 - pad // 2 for reach, pad in zip(reaches, pads, strict=True))
