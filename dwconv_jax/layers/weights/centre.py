"""Inhomogeneous dynamic weights: predicted at every position."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.dense import pointwise
from dwconv_jax.layers.folding import fold_after
from dwconv_jax.layers.norms import BatchNorm
from dwconv_jax.layers.weights.source import SourceSpec, Traits
from dwconv_jax.ops.dispatch import partition


class CentreWeights(nnx.Module):
    """Predicted at every position from its own feature (paper section 3).

    `C -> C / reduction` with bias, batch norm, ReLU, then `K * G` weights at each position.
    """

    traits = Traits(per_position=True)

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        self.connectivity = spec.connectivity
        self.shape = (spec.taps, spec.groups)
        hidden = spec.hidden_features
        self.squeeze = pointwise(spec.features, hidden, rngs=rngs, **spec.dtypes)
        self.norm: Any = BatchNorm(hidden, group_size=spec.batch_norm_group_size, **spec.dtypes)
        self.predict = pointwise(hidden, spec.taps * spec.groups, rngs=rngs, **spec.dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, jax.Array]:
        """Weights `[B, N, Q, K, G]`, and `x[B, *spatial, C]` as values."""
        hidden = jax.nn.relu(self.norm(self.squeeze(x), train, canvas.valid(x)))
        weights = partition(self.predict(hidden), canvas.rolled(self.connectivity))
        return weights.reshape(*weights.shape[:-1], *self.shape), x

    def fold_norms(self) -> None:
        """Makes the norm part of the layer before it; for inference alone."""
        self.norm = fold_after(self.squeeze, self.norm)
