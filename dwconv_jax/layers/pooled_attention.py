"""Attention onto a pooled map."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import gelu, linear
from dwconv_jax.layers.initializers import normal, redraw
from dwconv_jax.layers.norms import LayerNorm
from dwconv_jax.layers.patches import cut_patches
from dwconv_jax.layers.pooling import adaptive_mean

_POOLED_SIZE = 7  # of the keys' map in linear attention


class PooledAttention(nnx.Module):
    """Global attention onto keys and values of a smaller map (PVT v2).

    Patches of `stride x stride`, projected and normalized, make the keys' map. In linear attention
    it is the mean of the map over 7x7 parts instead, projected, normalized and activated.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        *,
        stride: int = 1,
        linear_attention: bool = False,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        """Creates the projections.

        Args:
          features: channels `C`.
          num_heads: divides `C`.
          stride: of the keys' map over the queries'.
          linear_attention: whether the keys' map is 7x7 whatever the map's size.
          rngs: initialization keys.
          **dtypes: `dtype` and `param_dtype`.
        """
        self.num_heads, self.stride, self.linear_attention = num_heads, stride, linear_attention
        self.q = linear(features, features, rngs=rngs, **dtypes)
        self.kv = linear(features, 2 * features, rngs=rngs, **dtypes)
        self.proj = linear(features, features, rngs=rngs, **dtypes)
        self.pool: Any = nnx.data(None)
        self.norm: Any = nnx.data(None)
        if linear_attention or stride > 1:
            size = 1 if linear_attention else stride
            self.pool = linear(size**2 * features, features, rngs=rngs, **dtypes)
            init = normal((2 / features) ** 0.5 / size)
            redraw(self.pool.kernel, init, rngs=rngs)
            self.norm = LayerNorm(features, rngs=rngs, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        del train
        pooled, valid = self.pooled(x, canvas)
        q, k, v = map(self._heads, (self.q(x), *jnp.split(self.kv(pooled), 2, axis=-1)))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
        if valid is not None:
            hidden = float(np.finfo(np.float32).min)
            scores = jnp.where(valid.reshape(x.shape[0], 1, 1, -1), scores, hidden)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.proj(y.reshape(*y.shape[:2], -1).reshape(x.shape))

    def pooled(self, x: jax.Array, canvas: Canvas) -> tuple[jax.Array, jax.Array | None]:
        """The map of the keys, `[B, h, w, C]`, and which of it count (see `Canvas.valid`)."""
        if self.pool is None:
            return x, canvas.valid(x)
        if self.linear_attention:
            return gelu(self.norm(self.pool(adaptive_mean(x, _POOLED_SIZE, canvas)))), None
        size = self.stride
        # What does not fill a patch is left out, except that a map within a patch is zero-padded.
        rows, cols = (max(side // size, 1) * size for side in x.shape[1:3])
        patches = cut_patches(x[:, :rows, :cols], size)
        if canvas.extent is not None:
            canvas = Canvas(jnp.maximum(canvas.extent // size, 1))
        return self.norm(self.pool(patches)), canvas.valid(patches)

    def _heads(self, x: jax.Array) -> jax.Array:
        """`[B, *spatial, C]` to `[B, positions, heads, D]`."""
        # In two steps, which meshes with explicit axes can follow.
        positions = x.reshape(x.shape[0], -1, x.shape[-1])
        return positions.reshape(*positions.shape[:2], self.num_heads, -1)
