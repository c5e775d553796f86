"""Flax NNX modules: the locally connected layer, its weight sources, and what stands around it."""

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import Mlp, linear, pointwise
from dwconv_jax.layers.depthwise_conv import DepthwiseConv
from dwconv_jax.layers.locally_connected import LocallyConnected
from dwconv_jax.layers.norms import BatchNorm, LayerNorm
from dwconv_jax.layers.patches import PatchEmbed, PatchMerging
from dwconv_jax.layers.squeeze_excitation import SqueezeExcitation

__all__ = [
    "WHOLE",
    "BatchNorm",
    "Canvas",
    "DepthwiseConv",
    "LayerNorm",
    "LocallyConnected",
    "Mlp",
    "PatchEmbed",
    "PatchMerging",
    "SqueezeExcitation",
    "linear",
    "pointwise",
]
