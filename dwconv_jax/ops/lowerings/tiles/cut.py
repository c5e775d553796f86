"""Cuts a map into tiles of neighboring queries, each with the union of the keys that they see."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from dwconv_jax.ops.connectivity import Size, Sliding
from dwconv_jax.ops.connectivity.product import combine
from dwconv_jax.ops.connectivity.sliding import SlidingAxis


class Tiles(NamedTuple):
    """The `n` tiles of a map: each has `t` queries and `s` keys, and one of `c` patterns.

    Attributes:
      queries: the position of each query; padding repeats position 0: int `[n, t]`.
      keys: the position of each key; padding repeats position 0: int `[n, s]`.
      places: the place of each position among the `n * t` queries: int `[N]`.
      patterns: the pattern of each tile: int `[n]`.
      offsets: for each axis of the map, the row of the table of relative positions, along that
        axis, for each query and key of a pattern, -1 where the query does not see the key: int
        `[c_axis, t_axis, s_axis]`. A pattern is one for each axis, raster; so are `t` and `s`.
    """

    queries: np.ndarray
    keys: np.ndarray
    places: np.ndarray
    patterns: np.ndarray
    offsets: tuple[np.ndarray, ...]


# Fewer queries than this make slow matrix products; more share keys that most do not see. Measured
# on a CPU with AVX-512 (56x56, kernel 7, 3 heads of 32, forward and gradients, relative): 9 queries
# 1.3, 16 queries 1, 25 queries 1.2, 32 queries 1.6, 64 queries 1.5.
_QUERIES = 16


@functools.lru_cache(maxsize=64)
def choose_tile(connectivity: Sliding, size: Size) -> Size:
    """Queries of a tile along each axis: the least products with at least 16, on large maps."""
    lengths = [-(-n // axis.dilation) for axis, n in zip(connectivity.along, size, strict=True)]
    wanted = min(_QUERIES, math.prod(lengths))

    def products(tile: Size) -> int:
        """Of queries and keys, padding included."""
        each = zip(connectivity.along, lengths, tile, strict=True)
        return math.prod(
            -(-length // t) * t * min(length, t + axis.kernel_size - 1) for axis, length, t in each
        )

    candidates = itertools.product(
        *(
            range(axis.stride, min(length, _QUERIES) + axis.stride, axis.stride)
            for axis, length in zip(connectivity.along, lengths, strict=True)
        )
    )
    return min((tile for tile in candidates if math.prod(tile) >= wanted), key=products)


@functools.lru_cache(maxsize=64)
def cut(connectivity: Sliding, size: Size, tile: Size) -> Tiles:
    """The tiles of a map of that size, of about `tile` queries along each axis."""
    axes = [_cut_axis(*axis) for axis in zip(connectivity.along, size, tile, strict=True)]
    queries, keys, which, offsets = zip(*axes, strict=True)
    positions = combine(list(queries), size)
    places = np.empty(math.prod(size), np.int32)
    places[positions[positions >= 0]] = np.flatnonzero(positions >= 0)
    return Tiles(
        queries=np.maximum(positions, 0),
        keys=np.maximum(combine(list(keys), size), 0),
        places=places,
        patterns=combine(list(which), tuple(len(patterns) for patterns in offsets)),
        offsets=offsets,
    )


def _cut_axis(
    axis: SlidingAxis, size: int, tile: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries `[n, t]` and keys `[n, s]`, -1 in padding, patterns `[n]`, offsets `[c, t, s]`."""
    seen, offsets = _neighborhoods(axis, size)
    tiles = [
        positions
        for group in range(min(axis.dilation, size))
        for positions in _split(np.arange(group, size, axis.dilation), tile, axis.stride)
    ]
    unions = [np.unique(seen[positions]) for positions in tiles]
    unions = [union[union >= 0] for union in unions]
    queries = np.full((len(tiles), max(map(len, tiles))), -1)
    keys = np.full((len(tiles), max(map(len, unions))), -1)
    tables = np.full((*queries.shape, keys.shape[1]), -1)
    for i, (positions, union) in enumerate(zip(tiles, unions, strict=True)):
        queries[i, : len(positions)] = positions
        keys[i, : len(union)] = union
        row, tap = np.nonzero(seen[positions] >= 0)
        column = np.searchsorted(union, seen[positions][row, tap])
        tables[i, row, column] = offsets[positions][row, tap]
    patterns, which = np.unique(tables, axis=0, return_inverse=True)
    return queries, keys, which.reshape(-1), patterns


def _neighborhoods(axis: SlidingAxis, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What each position sees, -1 for nothing, and at which offset, from 0: int `[size, k]`."""
    index, k = axis.index(size), axis.kernel_size
    shape = (*index.outputs.shape, k)
    inside = index.outputs >= 0
    seen, offsets = np.empty((2, size, k), int)
    seen[index.outputs[inside]] = np.broadcast_to(index.seen, shape)[inside]
    offsets[index.outputs[inside]] = np.broadcast_to(index.relative, shape)[inside]
    if axis.at_fixed_offsets:  # counted from the first tap, rather than from the least offset
        offsets += k - 1 - axis.reach[0] // axis.dilation
    return seen, offsets


def _split(positions: np.ndarray, tile: int, stride: int) -> list[np.ndarray]:
    """Parts of about equal length, at most `tile` or else one stride, in whole strides."""
    parts = -(-len(positions) // max(tile, stride))
    length = -(-len(positions) // (parts * stride)) * stride
    return np.split(positions, range(length, len(positions), length))
