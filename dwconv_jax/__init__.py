"""Local attention, depth-wise convolution and dynamic weights as one layer, for JAX and Flax."""

from dwconv_jax import layers, linen, models, ops
from dwconv_jax.layers import LocallyConnected
from dwconv_jax.models import create_model, list_models
from dwconv_jax.version import __version__

__all__ = [
    "LocallyConnected",
    "__version__",
    "create_model",
    "layers",
    "linen",
    "list_models",
    "models",
    "ops",
]
