"""Patches that overlap: from one stride to the next by a convolution (PVT v2, NAT, CSWin)."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.conv_norm_act import conv2d
from dwconv_jax.layers.norms import LayerNorm
from dwconv_jax.layers.patches import pad_to_multiple


class OverlappingPatches(nnx.Module):
    """A convolution whose kernel is larger than its stride, and layer norm."""

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: int = 3,
        *,
        stride: int = 2,
        padding: int | None = None,
        use_bias: bool = True,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        """Creates the layer; see `conv2d` for the arguments."""
        self.stride = stride
        self.conv = conv2d(
            in_features, features, kernel_size,
            stride=stride, padding=padding, use_bias=use_bias, rngs=rngs, **dtypes,
        )  # fmt: skip
        self.norm = LayerNorm(features, rngs=rngs, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / stride), ceil(W / stride), C]`."""
        del train, canvas
        return self.norm(self.conv(pad_to_multiple(x, (self.stride, self.stride))))
