"""Any connectivity, by the index math that it states: neighborhoods are gathered.

Slower than the lowerings of the library's own connectivities, and as general as the definition.
Where all outputs of a block see the same positions, a block is a matrix product.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.ops import definition
from dwconv_jax.ops.connectivity import Connectivity


def partition(x: jax.Array, connectivity: Connectivity) -> jax.Array:
    """`[B, *spatial, C]` to the outputs of each block, `[B, N, Q, C]`, zero in padding."""
    return take(x, connectivity.outputs(*x.shape[1:-1]))


def merge(blocks: jax.Array, connectivity: Connectivity, size: tuple[int, ...]) -> jax.Array:
    """The outputs of blocks, `[B, N, Q, C]`, to their places on the map, `[B, *size, C]`."""
    batch, *_, channels = blocks.shape
    outputs = connectivity.outputs(*size)
    place = np.argsort(np.where(outputs < 0, outputs.size, outputs), axis=None)
    flat = blocks.reshape(batch, -1, channels)[:, place[: math.prod(size)]]
    return flat.reshape(batch, *size, channels)


def mix(x: jax.Array, weights: jax.Array, connectivity: Connectivity) -> jax.Array:
    """`[B, *spatial, C]` by weights `[B or 1, N or 1, Q, K, G]`; see `ops.locally_connected`."""
    batch, *size, channels = x.shape
    keys = _common_keys(connectivity, *size)
    if keys is None:
        return definition.locally_connected(x, weights, connectivity)
    groups = weights.shape[-1]
    seen = take(x, keys)  # [B, N, K, C]
    seen = seen.reshape(*seen.shape[:3], groups, channels // groups)
    shape = (batch, len(keys), *weights.shape[2:])
    mixed = jnp.einsum("bnqkg,bnkgd->bnqgd", jnp.broadcast_to(weights, shape), seen)
    return merge(mixed.reshape(*mixed.shape[:3], channels), connectivity, tuple(size))


def logits(q: jax.Array, k: jax.Array, connectivity: Connectivity) -> jax.Array:
    """Products of queries and keys `[B, *spatial, heads, D]`: `[B, N, heads, Q, K]`."""
    size, heads = q.shape[1:-2], q.shape[-2:]
    q, k = (a.reshape(*a.shape[:-2], -1) for a in (q, k))
    queries = partition(q, connectivity)
    queries = queries.reshape(*queries.shape[:-1], *heads)
    common = _common_keys(connectivity, *size)
    seen = take(k, connectivity.neighbours(*size) if common is None else common)
    seen = seen.reshape(*seen.shape[:-1], *heads)
    keys = "bnqkhd" if common is None else "bnkhd"
    return jnp.einsum(f"bnqhd,{keys}->bnhqk", queries, seen)


def _common_keys(connectivity: Connectivity, *size: int) -> np.ndarray | None:
    """`[N, K]` where all outputs of a block see the same positions, else None."""
    neighbours = connectivity.neighbours(*size)
    return neighbours[:, 0] if (neighbours == neighbours[:, :1]).all() else None


def take(x: jax.Array, positions: np.ndarray) -> jax.Array:
    """`[B, *spatial, C]` at flat positions, zero where they are -1: `[B, *positions.shape, C]`."""
    batch, *_, channels = x.shape
    taken = x.reshape(batch, -1, channels)[:, np.maximum(positions, 0)]
    inside = (positions >= 0)[None, ..., None]
    return taken if inside.all() else jnp.where(inside, taken, jnp.zeros((), x.dtype))
