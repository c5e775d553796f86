"""The locally connected operator in pure JAX: arrays in, arrays out.

Beside it are the operators of detection, each in a module of its own: `boxes`, `anchors`,
`roi_align`, `nms`, `matching`, `sampling` and `masks`.
"""

from dwconv_jax.ops import attention, definition
from dwconv_jax.ops.attention import neighborhood_attention
from dwconv_jax.ops.causal_conv1d import causal_conv1d
from dwconv_jax.ops.connectivity import Connectivity, Global, Grid, Sliding, Window
from dwconv_jax.ops.depthwise_conv import depthwise_conv
from dwconv_jax.ops.dispatch import locally_connected
from dwconv_jax.ops.lowerings.summary import describe_lowerings

__all__ = [
    "Connectivity",
    "Global",
    "Grid",
    "Sliding",
    "Window",
    "attention",
    "causal_conv1d",
    "definition",
    "depthwise_conv",
    "describe_lowerings",
    "locally_connected",
    "neighborhood_attention",
]
