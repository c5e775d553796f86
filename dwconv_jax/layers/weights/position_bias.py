"""Relative position biases of attention."""

import jax
import numpy as np
from flax import nnx

from dwconv_jax.layers.initializers import linear_init
from dwconv_jax.layers.weights.source import SourceSpec


class RelativePositionBias(nnx.Module):
    """A learned bias for each head and each relative position of query and key.

    `table[R, heads]` has a row for each difference of two positions of a window or map of
    `h x w`, `R = (2 h - 1) * (2 w - 1)`, in Swin's order (query minus key), and for each tap of a
    sliding kernel, `R = K`.
    """

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        self.connectivity = spec.connectivity
        rows = self.connectivity.num_relative_positions(*spec.any_size)
        table = linear_init(rngs.params(), (rows, spec.groups), spec.param_dtype)
        self.table = nnx.Param(table)

    def __call__(self, *size: int) -> jax.Array:
        """The biases on a map of that size: float32 `[1, N or 1, heads, Q, K]`."""
        index = self.connectivity.relative_positions(*size)
        rows = self.table[...].astype(np.float32)[index.reshape(-1)]
        return rows.reshape(*index.shape, -1).transpose(0, 3, 1, 2)[None]
