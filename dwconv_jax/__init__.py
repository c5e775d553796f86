"""Local attention, depth-wise convolution and dynamic weights as one layer, for JAX and Flax."""

from dwconv_jax import convert, layers, linen, models, ops
from dwconv_jax.layers import DepthwiseConv, LocallyConnected
from dwconv_jax.models import create_model, list_models
from dwconv_jax.version import __version__

__all__ = [
    "DepthwiseConv",
    "LocallyConnected",
    "__version__",
    "convert",
    "create_model",
    "layers",
    "linen",
    "list_models",
    "models",
    "ops",
]
