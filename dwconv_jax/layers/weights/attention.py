"""Attention weights: softmax of query-key products plus a relative position bias."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.dense import linear
from dwconv_jax.layers.weights.position_bias import RelativePositionBias
from dwconv_jax.layers.weights.source import SourceSpec, Traits
from dwconv_jax.ops.connectivity import Size
from dwconv_jax.ops.dispatch import logits

# Swin's value across the seam of a shifted window. Padding must not leak at all.
_ACROSS_SEAM, _HIDDEN = -100.0, float(np.finfo(np.float32).min)


class AttentionWeights(nnx.Module):
    """Multi-head attention over the positions that connect (paper section 2; Swin).

    The groups of channels are the heads. Queries see neither padding nor, in shifted windows, what
    lies across the seam of the roll. Values are a projection of `x`, as queries and keys are.
    """

    traits = Traits(per_position=True, any_block=True, projection=True)

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        self.connectivity, self.num_heads = spec.connectivity, spec.groups
        self.qkv = linear(spec.features, 3 * spec.features, rngs=rngs, **spec.dtypes)
        self.position_bias = RelativePositionBias(spec, rngs=rngs)

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, jax.Array]:
        """Weights `[B, N, Q, K, heads]` and values `[B, *spatial, C]`."""
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        size = x.shape[1:-1]
        heads = (*x.shape[:-1], self.num_heads, -1)
        q, k = (q * (x.shape[-1] // self.num_heads) ** -0.5).reshape(heads), k.reshape(heads)
        scores = logits(q, k, canvas.rolled(self.connectivity)).astype(jnp.float32)
        scores = scores + self.position_bias(*size)
        weights = jax.nn.softmax(self._mask(scores, canvas, size), axis=-1)
        return jnp.moveaxis(weights.astype(v.dtype), 2, -1), v

    def _mask(self, scores: jax.Array, canvas: Canvas, map_size: Size) -> jax.Array:
        """Adds what hides keys to scores `[B, N, heads, Q, K]`."""
        across = canvas.across_seam(self.connectivity, map_size)
        hidden = canvas.hidden(self.connectivity, map_size)
        mask = None if across is None else _where(across, _ACROSS_SEAM)
        if hidden is not None:
            hides = _where(hidden, _HIDDEN)
            mask = hides if mask is None else jnp.minimum(mask, hides)
        return scores if mask is None else scores + mask[:, :, None]


def _where(condition: jax.Array, value: float) -> jax.Array:
    return jnp.where(condition, jnp.float32(value), jnp.float32(0))
