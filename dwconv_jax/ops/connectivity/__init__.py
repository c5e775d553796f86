"""Which positions connect, over one, two or three axes."""

from dwconv_jax.ops.connectivity.blocks import Blocks, Global, Grid, Window
from dwconv_jax.ops.connectivity.protocol import Connectivity
from dwconv_jax.ops.connectivity.sizes import Pair, Size, as_pair, entries, per_axis
from dwconv_jax.ops.connectivity.sliding import Border, Sliding

__all__ = [
    "Blocks",
    "Border",
    "Connectivity",
    "Global",
    "Grid",
    "Pair",
    "Size",
    "Sliding",
    "Window",
    "as_pair",
    "entries",
    "per_axis",
]
