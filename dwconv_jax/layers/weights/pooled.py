"""Homogeneous dynamic weights: predicted once an image."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.dense import pointwise
from dwconv_jax.layers.folding import fold_after
from dwconv_jax.layers.initializers import zeros
from dwconv_jax.layers.norms import BatchNorm
from dwconv_jax.layers.weights.source import SourceSpec, Traits


class PooledWeights(nnx.Module):
    """Predicted once an image from the pooled feature (paper section 3).

    Global average pool, `C -> C / reduction` without bias, batch norm, ReLU, then the weights.
    """

    traits = Traits(bias_init=lambda taps: zeros)

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        blocks, outputs, seen, groups = self.shape = spec.shape()
        hidden = spec.hidden_features
        self.squeeze = pointwise(spec.features, hidden, use_bias=False, rngs=rngs, **spec.dtypes)
        self.norm: Any = BatchNorm(hidden, group_size=spec.batch_norm_group_size, **spec.dtypes)
        size = blocks * outputs * seen * groups
        self.predict: Any = pointwise(hidden, size, rngs=rngs, **spec.dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, jax.Array]:
        """Weights `[B, N or 1, Q, K, G]`, and `x[B, *spatial, C]` as values."""
        hidden = jax.nn.relu(self.norm(self.squeeze(canvas.mean(x)), train))
        return self.predict(hidden).reshape(-1, *self.shape), x

    def fold_norms(self) -> None:
        """Makes the norm part of the layer before it; for inference alone."""
        self.norm = fold_after(self.squeeze, self.norm)

    def scale_channels(self, scale: jax.Array) -> bool:
        """Multiplies the weights of each channel by `scale[C]`, if each has weights of its own."""
        if self.shape[-1] != len(scale):
            return False
        repeated = jnp.tile(scale, self.predict.out_features // len(scale))
        self.predict.kernel[...] *= repeated[None]
        self.predict.bias[...] *= repeated
        return True
