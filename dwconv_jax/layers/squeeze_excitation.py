"""Gates for channels, decided by the pooled feature."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import pointwise


class SqueezeExcitation(nnx.Module):
    """Multiplies each channel by a gate between 0 and 1 (Hu et al., 2018).

    Global average pool, `C -> C / reduction`, activation, `C / reduction -> C`, sigmoid: a weight
    that is dynamic, shared by all positions, over a neighborhood of one. `activation` is the name
    of a function of `jax.nn`.
    """

    def __init__(
        self,
        features: int,
        *,
        reduction: int = 4,
        activation: str = "relu",
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.activation = activation
        hidden = max(1, features // reduction)
        self.squeeze = pointwise(features, hidden, rngs=rngs, **dtypes)
        self.excite = pointwise(hidden, features, rngs=rngs, **dtypes)

    def __call__(self, x: jax.Array, canvas: Canvas = WHOLE) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`; pools over what counts of the canvas."""
        pooled = canvas.mean(x)[:, None, None]
        hidden = getattr(jax.nn, self.activation)(self.squeeze(pooled))
        return x * jax.nn.sigmoid(self.excite(hidden))
