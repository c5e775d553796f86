"""Attention over a sliding neighborhood, tile by tile."""

import functools
import itertools
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dwconv_jax.ops.connectivity import Size, Sliding
from dwconv_jax.ops.lowerings.tiles.cut import Tiles, cut
from dwconv_jax.ops.lowerings.tpu.split_images import split_images

_UNSEEN = -1e30  # finite, so that the padding of tiles, which sees nothing, stays finite too


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    connectivity: Sliding,
    *,
    scale: float,
    bias: jax.Array | None = None,
    tile: Size | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Attention of every query over its neighborhood.

    The memory needed beyond the arrays themselves is a few times the logits of one image: images
    are computed in turn on CPU, and gradients recompute the logits of an image.

    Args:
      query: `[B, *spatial, heads, D]`.
      key: `[B, *spatial, kv_heads, D]`; `kv_heads` divides `heads`.
      value: `[B, *spatial, kv_heads, Dv]`.
      connectivity: which positions see which.
      scale: of the products of queries and keys.
      bias: relative position bias `[heads, 2 k_1 - 1, ...]`, one axis for each of the map, indexed
        by key minus query in steps of the dilation, plus `k - 1`.
      tile: queries of a tile along each axis; by default chosen by shape.

    Returns:
      `[B, *spatial, heads, Dv]` in the dtype of `query`, and the logarithm of the sum of the
      exponentials of the logits: float32 `[B, *spatial, heads]`.
    """
    _, *size, heads, _ = query.shape
    tiles = cut(connectivity, tuple(size), tile or choose_tile(connectivity, tuple(size)))
    penalties = _penalties(tiles, bias, key.shape[-2])
    one = jax.checkpoint(
        functools.partial(_attend_image, tiles=tiles, scale=scale), prevent_cse=False
    )

    in_turn = functools.partial(split_images, functools.partial(_images_in_turn, one), maps=3)
    at_once = jax.vmap(one, in_axes=(0, 0, 0, None))
    return lax.platform_dependent(query, key, value, penalties, cpu=in_turn, default=at_once)


def _images_in_turn(one, query, key, value, penalties):
    return lax.map(lambda image: one(*image, penalties), (query, key, value))


Array = TypeVar("Array", np.ndarray, jax.Array)


def choose_tile(connectivity: Sliding, size: Size) -> Size:
    """Queries of a tile along each axis."""
    return (4,) * len(size)


def _attend_image(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    penalties: jax.Array,
    *,
    tiles: Tiles,
    scale: float,
) -> tuple[jax.Array, jax.Array]:
    """`attend` for one image, without the axis of images."""
    *size, heads, _ = query.shape
    groups = key.shape[-2]

    # Axes: g groups of r heads that share keys, n tiles of t queries and s keys.
    queries = query.reshape(-1, groups, heads // groups, query.shape[-1]).transpose(1, 2, 0, 3)
    queries = _take(queries, tiles.queries)
    keys, values = (
        _take(x.reshape(-1, *x.shape[-2:]).swapaxes(0, 1), tiles.keys) for x in (key, value)
    )
    wide = {"preferred_element_type": jnp.float32}
    logits = jnp.einsum("grntd,gnsd->grnts", queries, keys, **wide)
    logits = logits * scale + penalties[:, :, tiles.patterns]
    peak = lax.stop_gradient(logits.max(-1, keepdims=True))
    shares = jnp.exp(logits - peak)
    total = shares.sum(-1, keepdims=True)
    mixed = jnp.einsum("grnts,gnsd->grntd", shares.astype(value.dtype), values, **wide) / total

    def merge(x: jax.Array) -> jax.Array:
        x = x.reshape(heads, -1, x.shape[-1])[:, tiles.places]
        return x.swapaxes(0, 1).reshape(*size, heads, -1)

    return merge(mixed.astype(query.dtype)), merge(peak + jnp.log(total))[..., 0]


def _take(x: jax.Array, positions: np.ndarray) -> jax.Array:
    """`[..., N, D]` at positions `[n, t]`: `[..., n, t, D]`."""
    return x.at[..., positions, :].get(mode="promise_in_bounds")


def _penalties(tiles: Tiles, bias: jax.Array | None, groups: int) -> jax.Array:
    """What to add to the logits of each pattern: `[g or 1, r or 1, c, t, s]`."""
    spans = [offsets.shape for offsets in tiles.offsets]
    count = len(spans)
    order = [1 + 3 * axis + i for i in range(3) for axis in range(count)]

    def flat(x: Array) -> Array:
        """`[..., c_1, t_1, s_1, c_2, ...]` to `[..., c, t, s]`."""
        x = x.reshape(-1, *itertools.chain(*spans)).transpose(0, *order)
        return x.reshape(-1, *map(math.prod, zip(*spans, strict=True)))

    seen = (offsets.reshape(-1) >= 0 for offsets in tiles.offsets)
    seen = flat(functools.reduce(np.multiply.outer, seen))
    if bias is None:
        return jnp.where(seen, 0.0, _UNSEEN)[None].astype(jnp.float32)
    # Products with 0/1 matrices: gradients of a gather would add one number at a time.
    table = bias.astype(jnp.float32)
    for axis, offsets in enumerate(tiles.offsets, start=1):
        chosen = jax.nn.one_hot(offsets.reshape(-1), table.shape[axis], axis=0)
        table = jnp.moveaxis(
            jnp.tensordot(table, chosen, (axis, 0), precision=lax.Precision.HIGHEST), -1, axis
        )
    table = flat(table)
    penalties = jnp.where(seen, table, _UNSEEN)
    return penalties.reshape(groups, -1, *penalties.shape[1:])
