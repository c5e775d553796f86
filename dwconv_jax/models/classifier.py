"""Image classification: the backbone, a final norm, the mean over positions, a linear head."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import linear
from dwconv_jax.models.backbone import Backbone


class Classifier(Backbone):
    """A backbone with a head; `features` gives its maps."""

    def __init__(self, *, num_classes: int = 1000, rngs: nnx.Rngs, **backbone: Any):
        """Builds the backbone (see `Backbone`) and a head of `num_classes` outputs."""
        if num_classes < 1:
            raise UserError(f"num_classes must be at least 1, got {num_classes}")
        super().__init__(rngs=rngs, **backbone)
        dtypes = {k: backbone[k] for k in ("dtype", "param_dtype") if k in backbone}
        width = self.out_features
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs, **dtypes)
        self.head = linear(width, num_classes, rngs=rngs, **dtypes)

    def __call__(
        self, images: jax.Array, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Logits of the images.

        Args:
          images: `[B, H, W, in_channels]`, floating, any `H` and `W`.
          train: use batch statistics (and update the running ones) and stochastic depth.
          rngs: keys for stochastic depth; None for the model's own.

        Returns:
          float32 `[B, num_classes]`.
        """
        x = self.norm(self.features(images, train, rngs)[-1])
        pooled = x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)
        return self.head(pooled).astype(jnp.float32)
