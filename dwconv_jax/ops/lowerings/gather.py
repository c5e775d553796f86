"""Any connectivity, by the index math that it states: neighborhoods are gathered.

Slower than the lowerings of the library's own connectivities, and as general as the definition.
Where all outputs of a block see the same positions, a block is a matrix product.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.ops import definition
from dwconv_jax.ops.connectivity import Connectivity


def partition(x: jax.Array, connectivity: Connectivity) -> jax.Array:
    """`[B, H, W, ...]` to the outputs of each block, `[B, N, Q, ...]`, zero in padding."""
    return _take(x, connectivity.outputs(*x.shape[1:3]))


def mix(x: jax.Array, weights: jax.Array, connectivity: Connectivity) -> jax.Array:
    """`[B, H, W, C]` by weights `[B or 1, N or 1, Q, K, G]`; see `ops.locally_connected`."""
    keys = _common_keys(connectivity, *x.shape[1:3])
    if keys is None:
        return definition.locally_connected(x, weights, connectivity)
    batch, height, width, channels = x.shape
    groups = weights.shape[-1]
    seen = _take(x, keys)  # [B, N, K, C]
    seen = seen.reshape(*seen.shape[:3], groups, channels // groups)
    shape = (batch, len(keys), *weights.shape[2:])
    mixed = jnp.einsum("bnqkg,bnkgd->bnqgd", jnp.broadcast_to(weights, shape), seen)
    outputs = connectivity.outputs(height, width)
    inside = outputs >= 0
    y = jnp.zeros((batch, height * width, channels), mixed.dtype)
    y = y.at[:, outputs[inside]].set(mixed.reshape(*mixed.shape[:3], channels)[:, inside])
    return y.reshape(x.shape)


def logits(q: jax.Array, k: jax.Array, connectivity: Connectivity) -> jax.Array:
    """Products of queries and keys `[B, H, W, heads, D]`: `[B, N, heads, Q, K]`."""
    size = (q.shape[1], q.shape[2])
    queries = partition(q, connectivity)
    keys = _common_keys(connectivity, *size)
    if keys is None:
        seen = _take(k, connectivity.neighbours(*size))
        return jnp.einsum("bnqhd,bnqkhd->bnhqk", queries, seen)
    return jnp.einsum("bnqhd,bnkhd->bnhqk", queries, _take(k, keys))


def _common_keys(connectivity: Connectivity, height: int, width: int) -> np.ndarray | None:
    """`[N, K]` where all outputs of a block see the same positions, else None."""
    neighbours = connectivity.neighbours(height, width)
    return neighbours[:, 0] if (neighbours == neighbours[:, :1]).all() else None


def _take(x: jax.Array, positions: np.ndarray) -> jax.Array:
    """`[B, H, W, ...]` at flat positions, zero where they are -1: `[B, *positions.shape, ...]`."""
    batch, height, width, *rest = x.shape
    taken = x.reshape(batch, height * width, *rest)[:, np.maximum(positions, 0)]
    inside = (positions >= 0).reshape(1, *positions.shape, *(1,) * len(rest))
    return taken if inside.all() else jnp.where(inside, taken, jnp.zeros((), x.dtype))
