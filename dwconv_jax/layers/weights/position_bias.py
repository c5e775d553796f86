"""Relative position biases of attention: what is added to the products of queries and keys.

Called with the queries `[B, *spatial, heads, D]`, before their scaling, and the connectivity (on
the map as it is, or rolled already), they return float32 `[B or 1, N or 1, heads, Q, K]`.
"""

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.dense import linear
from dwconv_jax.layers.initializers import linear_init, normal
from dwconv_jax.layers.weights.source import BuildSource, SourceSpec
from dwconv_jax.ops.connectivity import Connectivity, Size, per_axis
from dwconv_jax.ops.connectivity.product import AxisShape, Product
from dwconv_jax.ops.dispatch import partition


class RelativePositionBias(nnx.Module):
    """A learned bias for each head and each relative position of query and key.

    `table[R, heads]` has a row for each difference of two positions of a window or map of
    `h x w`, `R = (2 h - 1) * (2 w - 1)`, in Swin's order (query minus key), and for each tap of a
    sliding kernel, `R = K`. Where a query may lie anywhere in its kernel (a stride, or the border
    "clamp"), it has one for each difference of two taps (key minus query).
    """

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        rows = spec.connectivity.num_relative_positions(*spec.any_size)
        table = linear_init(rngs.params(), (rows, spec.groups), spec.param_dtype)
        self.table = nnx.Param(table)

    def __call__(self, queries: jax.Array, connectivity: Connectivity) -> jax.Array:
        """The biases on the map of the queries: float32 `[1, N or 1, heads, Q, K]`."""
        rows = self.table[...].astype(np.float32)
        return _spread(rows, connectivity, queries.shape[1:-2])


class ContinuousPositionBias(nnx.Module):
    """Swin V2's position bias: a function of the relative position, by a small network.

    It sees log-spaced coordinates, so it carries over to windows and maps of other sizes: two
    linear layers with 512 hidden units and ReLU, then 16 times a sigmoid. Coordinates are shares of
    the farthest key, or of the farthest in the windows of pre-training.
    """

    def __init__(
        self,
        spec: SourceSpec,
        *,
        pretrained_window: int | Size | None = None,
        hidden_features: int = 512,
        rngs: nnx.Rngs,
    ):
        self.reach = None
        if pretrained_window is not None:
            sides = per_axis("pretrained_window", pretrained_window, 1, spec.num_axes)
            self.reach = tuple(side - 1 for side in sides)
        dtypes: dict[str, Any] = dict(dtype=jnp.float32, param_dtype=spec.param_dtype)
        self.fc1 = linear(spec.num_axes, hidden_features, rngs=rngs, **dtypes)
        self.fc2 = linear(hidden_features, spec.groups, use_bias=False, rngs=rngs, **dtypes)

    def __call__(self, queries: jax.Array, connectivity: Connectivity) -> jax.Array:
        """The biases on the map of the queries: float32 `[1, N or 1, heads, Q, K]`."""
        size = queries.shape[1:-2]
        rows = self.fc2(jax.nn.relu(self.fc1(jnp.asarray(self.coordinates(connectivity, size)))))
        return _spread(16 * jax.nn.sigmoid(rows), connectivity, size)

    def coordinates(self, connectivity: Connectivity, size: Size) -> np.ndarray:
        """What the network sees of each relative position: float32 `[R, num_axes]`."""
        offsets = connectivity.relative_offsets(*size)
        reach = self.reach
        if reach is None:
            reach = np.abs(offsets[connectivity.relative_positions(*size).reshape(-1)]).max(0)
        place = 8 * offsets / np.maximum(reach, 1)
        place = np.sign(place) * np.log2(1 + np.abs(place)) / np.log2(8)
        return place.astype(np.float32)


class QueryPositionBias(nnx.Module):
    """Products of each query with a learned vector for the relative position of each key.

    The vectors are sums of one for each axis, shared by the heads (HaloNet; Bello et al., 2019).
    `rows[i][2 k - 1, D]` has those of axis `i`, along which a query sees `k` positions: of the
    place of the key among them minus the place of the query in its block, plus `k - 1`.
    """

    def __init__(self, spec: SourceSpec, *, query_stride: int = 1, rngs: nnx.Rngs):
        if not isinstance(spec.connectivity, Product):
            raise UserError(
                "position_bias='query' needs a connectivity that is defined axis by axis, got "
                f"{spec.connectivity}"
            )
        self.query_stride = query_stride
        width = spec.features // spec.groups
        init = normal(width**-0.5)
        shapes = [
            (2 * axis.seen - 1, width) for axis in spec.connectivity.axis_shapes(*spec.any_size)
        ]
        self.rows = nnx.List(
            nnx.Param(init(rngs.params(), shape, spec.param_dtype)) for shape in shapes
        )

    def __call__(self, queries: jax.Array, connectivity: Any) -> jax.Array:
        """The products: float32 `[B, N, heads, Q, K]`."""
        *_, heads, width = queries.shape
        axes: list[AxisShape] = connectivity.axis_shapes(*queries.shape[1:-2])
        blocks = partition(queries.reshape(*queries.shape[:-2], -1), connectivity)
        blocks = blocks.astype(jnp.float32).reshape(
            *blocks.shape[:2], *(axis.outputs for axis in axes), heads, width
        )
        letters = "xyz"[: len(axes)]
        along = []
        for i, (axis, rows) in enumerate(zip(axes, self.rows, strict=True)):
            vectors = rows[...].astype(jnp.float32)[self._index(axis, len(rows[...]))]
            equation = f"bn{letters}hd,{letters[i]}kd->bnh{letters}k"
            products = jnp.einsum(equation, blocks, vectors)
            others = [3 + len(axes) + j for j in range(len(axes)) if j != i]
            along.append(jnp.expand_dims(products, others))
        total = functools.reduce(operator.add, along)
        return total.reshape(*total.shape[:3], math.prod(a.outputs for a in axes), -1)

    def _index(self, axis: AxisShape, num_rows: int) -> np.ndarray:
        """The row of each query and key along an axis: int `[q, k]`."""
        query = np.arange(axis.outputs) // self.query_stride
        return np.arange(axis.seen) - query[:, None] + num_rows // 2


def _spread(rows: jax.Array, connectivity: Connectivity, size: Size) -> jax.Array:
    """`[R, heads]` to the query and key of each relative position: `[1, N or 1, heads, Q, K]`."""
    index = connectivity.relative_positions(*size)
    return rows[index.reshape(-1)].reshape(*index.shape, -1).transpose(0, 3, 1, 2)[None]


POSITION_BIASES: dict[str | None, BuildSource | None] = {
    "table": RelativePositionBias,
    "mlp": ContinuousPositionBias,
    "query": QueryPositionBias,
    None: None,
}
