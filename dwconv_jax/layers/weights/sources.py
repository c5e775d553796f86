"""Where the weights of a locally connected layer come from (paper section 3, "dynamic weight").

A source maps the features `x[B, H, W, C]` to the weights `[B or 1, N or 1, Q, K, G]` of
`ops.locally_connected` and the values that they mix (`x` itself, or a projection of it). Where an
extent is given (see `layers.extents`), `x` is 0 beyond it, and rolled already for shifted windows.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.canvas import inside, mean_inside
from dwconv_jax.layers.dense import linear, pointwise
from dwconv_jax.layers.initializers import conv_init, linear_init
from dwconv_jax.layers.norms import BatchNorm
from dwconv_jax.layers.weights.relative_position import RelativePositionBias, attention_mask
from dwconv_jax.ops.connectivity import Connectivity, Sliding
from dwconv_jax.ops.lowerings.blocks import partition
from dwconv_jax.ops.lowerings.per_position import tap_products

# By its name `multiply_adds` finds it in a traced program.
_tap_products = jax.jit(tap_products, static_argnums=(2, 3))

WeightsAndValues = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class WeightShape:
    """The part of the weights' shape that the flags fix: `blocks` is 1 where they are shared."""

    blocks: int
    outputs: int
    seen: int
    groups: int


class StaticWeights(nnx.Module):
    """The weights are parameters, `kernel[N or 1, Q, K, G]`."""

    def __init__(self, shape: WeightShape, *, rngs: nnx.Rngs, dtype: Any, param_dtype: Any):
        self.dtype = dtype
        self.kernel = nnx.Param(
            conv_init(shape.seen)(rngs.params(), dataclasses.astuple(shape), param_dtype)
        )

    def __call__(
        self,
        x: jax.Array,
        connectivity: Connectivity,
        train: bool,
        extent: jax.Array | None = None,
    ) -> WeightsAndValues:
        """Weights and values for `x[B, H, W, C]`."""
        return self.kernel[...].astype(self.dtype or x.dtype)[None], x


class PooledWeights(nnx.Module):
    """Predicted once an image from the pooled feature (homogeneous dynamic weights).

    Global average pool, `C -> C / reduction` without bias, batch norm, ReLU, then the weights.
    """

    def __init__(
        self,
        features: int,
        shape: WeightShape,
        *,
        reduction: int,
        batch_norm_group_size: int | None,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.shape = dataclasses.astuple(shape)
        hidden, size = max(1, features // reduction), shape.seen * shape.groups
        self.squeeze = pointwise(features, hidden, use_bias=False, rngs=rngs, **dtypes)
        self.norm = BatchNorm(hidden, group_size=batch_norm_group_size, **dtypes)
        self.predict = pointwise(hidden, shape.blocks * shape.outputs * size, rngs=rngs, **dtypes)

    def __call__(
        self,
        x: jax.Array,
        connectivity: Connectivity,
        train: bool,
        extent: jax.Array | None = None,
    ) -> WeightsAndValues:
        """Weights and values for `x[B, H, W, C]`."""
        hidden = jax.nn.relu(self.norm(self.squeeze(mean_inside(x, extent)), train))
        return self.predict(hidden).reshape(-1, *self.shape), x


class CentreWeights(nnx.Module):
    """Predicted at every position from its own feature (inhomogeneous dynamic weights).

    `C -> C / reduction` with bias, batch norm, ReLU, then `K * G` weights at each position.
    """

    def __init__(
        self,
        features: int,
        shape: WeightShape,
        *,
        reduction: int,
        batch_norm_group_size: int | None,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.shape = (shape.seen, shape.groups)
        hidden = max(1, features // reduction)
        self.squeeze = pointwise(features, hidden, rngs=rngs, **dtypes)
        self.norm = BatchNorm(hidden, group_size=batch_norm_group_size, **dtypes)
        self.predict = pointwise(hidden, shape.seen * shape.groups, rngs=rngs, **dtypes)

    def __call__(
        self,
        x: jax.Array,
        connectivity: Connectivity,
        train: bool,
        extent: jax.Array | None = None,
    ) -> WeightsAndValues:
        """Weights and values for `x[B, H, W, C]`."""
        batch, height, width, _ = x.shape
        valid = None if extent is None else inside(extent, x.shape[1:3])
        hidden = jax.nn.relu(self.norm(self.squeeze(x), train, valid))
        weights = self.predict(hidden).reshape(batch, height, width, *self.shape)
        if isinstance(connectivity, Sliding):
            return weights.reshape(batch, height * width, 1, *self.shape), x
        blocks = connectivity if extent is None else connectivity.unrolled()
        return partition(weights, blocks), x


class AttentionWeights(nnx.Module):
    """Softmax of query-key products plus a relative position bias (local attention, Swin).

    `num_groups` heads share the channels. Queries neither see the padding nor, in shifted windows,
    the other side of the roll's seam. The values are a projection of `x`, as queries and keys are.
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        connectivity: Connectivity,
        map_size: tuple[int, int] | None,
        *,
        rngs: nnx.Rngs,
        param_dtype: Any,
        **dtypes: Any,
    ):
        self.num_heads = num_heads
        self.qkv = linear(features, 3 * features, rngs=rngs, param_dtype=param_dtype, **dtypes)
        self.position_bias = RelativePositionBias(
            connectivity, num_heads, map_size, init=linear_init, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(
        self,
        x: jax.Array,
        connectivity: Connectivity,
        train: bool,
        extent: jax.Array | None = None,
    ) -> WeightsAndValues:
        """Weights and values for `x[B, H, W, C]`."""
        _, height, width, channels = x.shape
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        q = q * (channels // self.num_heads) ** -0.5
        blocks = connectivity if extent is None else connectivity.unrolled()
        logits = query_key_products(q, k, blocks, self.num_heads).astype(jnp.float32)
        logits = logits + self.position_bias(connectivity, height, width)
        mask = attention_mask(connectivity, height, width, extent)
        if mask is not None:
            logits = logits + mask[:, :, None]
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        return jnp.moveaxis(weights, 2, -1), v


def query_key_products(
    q: jax.Array, k: jax.Array, connectivity: Connectivity, num_heads: int
) -> jax.Array:
    """Products of each query with the keys that it sees.

    Args:
      q: `[B, H, W, C]`.
      k: `[B, H, W, C]`; zero outside the map.
      connectivity: which keys a query sees.
      num_heads: heads that share the channels.

    Returns:
      `[B, N, heads, Q, K]`.
    """
    batch, height, width, channels = q.shape
    if isinstance(connectivity, Sliding):
        products = _tap_products(k, q, num_heads, connectivity)  # [B, H, W, K, heads]
        return products.swapaxes(3, 4).reshape(batch, height * width, num_heads, 1, -1)
    heads = (batch, height, width, num_heads, channels // num_heads)
    q, k = partition(q.reshape(heads), connectivity), partition(k.reshape(heads), connectivity)
    return jnp.einsum("bnqgd,bnkgd->bngqk", q, k)
