"""Relative position biases of attention."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.layers.dense import linear
from dwconv_jax.layers.initializers import linear_init
from dwconv_jax.layers.weights.source import BuildSource, SourceSpec
from dwconv_jax.ops.connectivity import Connectivity, Size


class RelativePositionBias(nnx.Module):
    """A learned bias for each head and each relative position of query and key.

    `table[R, heads]` has a row for each difference of two positions of a window or map of
    `h x w`, `R = (2 h - 1) * (2 w - 1)`, in Swin's order (query minus key), and for each tap of a
    sliding kernel, `R = K`. Where a query may lie anywhere in its kernel (a stride, or the border
    "clamp"), it has one for each difference of two taps (key minus query).
    """

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        self.connectivity = spec.connectivity
        rows = self.connectivity.num_relative_positions(*spec.any_size)
        table = linear_init(rngs.params(), (rows, spec.groups), spec.param_dtype)
        self.table = nnx.Param(table)

    def __call__(self, *size: int) -> jax.Array:
        """The biases on a map of that size: float32 `[1, N or 1, heads, Q, K]`."""
        return _spread(self.table[...].astype(np.float32), self.connectivity, size)


class ContinuousPositionBias(nnx.Module):
    """Swin V2's position bias: a function of the relative position, by a small network.

    It sees log-spaced coordinates, so it carries over to windows and maps of other sizes: two
    linear layers with 512 hidden units and ReLU, then 16 times a sigmoid.
    """

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs, hidden_features: int = 512):
        self.connectivity = spec.connectivity
        dtypes: dict[str, Any] = dict(dtype=jnp.float32, param_dtype=spec.param_dtype)
        self.fc1 = linear(spec.num_axes, hidden_features, rngs=rngs, **dtypes)
        self.fc2 = linear(hidden_features, spec.groups, use_bias=False, rngs=rngs, **dtypes)

    def __call__(self, *size: int) -> jax.Array:
        """The biases on a map of that size: float32 `[1, N or 1, heads, Q, K]`."""
        place = 8 * self.connectivity.relative_coordinates(*size)
        place = np.sign(place) * np.log2(1 + np.abs(place)) / np.log2(8)
        rows = self.fc2(jax.nn.relu(self.fc1(jnp.asarray(place, jnp.float32))))
        return _spread(16 * jax.nn.sigmoid(rows), self.connectivity, size)


def _spread(rows: jax.Array, connectivity: Connectivity, size: Size) -> jax.Array:
    """`[R, heads]` to the query and key of each relative position: `[1, N or 1, heads, Q, K]`."""
    index = connectivity.relative_positions(*size)
    return rows[index.reshape(-1)].reshape(*index.shape, -1).transpose(0, 3, 1, 2)[None]


POSITION_BIASES: dict[str | None, BuildSource | None] = {
    "table": RelativePositionBias,
    "mlp": ContinuousPositionBias,
    None: None,
}
