"""Attention over a sliding neighborhood, tile by tile."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dwconv_jax.ops.connectivity import Size, Sliding
from dwconv_jax.ops.lowerings.split_images import split_images
from dwconv_jax.ops.lowerings.tiles.cut import Tiles, choose_tile, cut

_UNSEEN = -1e30  # finite, so that the padding of tiles, which sees nothing, stays finite too


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    *,
    connectivity: Sliding,
    scale: float,
    tile: Size | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Attention of every query over its neighborhood.

    The memory needed beyond the arrays themselves is a few times the logits of one image: images
    are computed in turn on CPU, and gradients recompute the logits of an image.

    Args:
      query: `[B, *spatial, heads, D]`.
      key: `[B, *spatial, kv_heads, D]`; `kv_heads` divides `heads`.
      value: `[B, *spatial, kv_heads, Dv]`.
      bias: relative position bias `[heads, 2 k_1 - 1, ...]`, one axis for each of the map, indexed
        by key minus query in steps of the dilation, plus `k - 1`.
      connectivity: which positions see which.
      scale: of the products of queries and keys.
      tile: queries of a tile along each axis; by default chosen by shape.

    Returns:
      `[B, *spatial, heads, Dv]` in the dtype of `query`, and the logarithm of the sum of the
      exponentials of the logits: float32 `[B, *spatial, heads]`.
    """
    size = query.shape[1:-2]
    tiles = cut(connectivity, size, tile or choose_tile(connectivity, size))
    one = functools.partial(_attend_image, tiles=tiles, scale=scale)
    in_loop = jax.checkpoint(one, prevent_cse=False)  # the loop already does

    def in_turn(*arrays: jax.Array) -> Any:
        *maps, penalties = arrays
        return lax.map(lambda image: in_loop(*image, penalties), tuple(maps))

    return lax.platform_dependent(
        query,
        key,
        value,
        _penalties(tiles, bias, key.shape[-2]),
        cpu=functools.partial(split_images, in_turn, maps=3),
        default=jax.vmap(jax.checkpoint(one), in_axes=(0, 0, 0, None)),
    )


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

    # Axes: g groups of r heads that share keys, n tiles of t queries and s keys. Queries are minor
    # in the logits: XLA:CPU sums over other axes faster than over the minor one.
    queries = query.reshape(-1, groups, heads // groups, query.shape[-1]).transpose(1, 2, 0, 3)
    queries = _take(queries, tiles.queries)
    keys, values = (
        _take(x.reshape(-1, *x.shape[-2:]).swapaxes(0, 1), tiles.keys) for x in (key, value)
    )
    wide = {"preferred_element_type": jnp.float32}
    logits = jnp.einsum("grntd,gnsd->grnst", queries, keys, **wide)
    logits = logits * scale + penalties
    peak = lax.stop_gradient(logits.max(-2))
    shares = jnp.exp(logits - peak[..., None, :])
    total = shares.sum(-2)
    mixed = jnp.einsum("grnst,gnsd->grntd", shares.astype(value.dtype), values, **wide)
    mixed /= total[..., None]

    def merge(x: jax.Array) -> jax.Array:
        x = x.reshape(heads, -1, x.shape[-1])[:, tiles.places]
        return x.swapaxes(0, 1).reshape(*size, heads, -1)

    return merge(mixed.astype(query.dtype)), merge((peak + jnp.log(total))[..., None])[..., 0]


def _take(x: jax.Array, positions: np.ndarray) -> jax.Array:
    """`[..., N, D]` at positions `[n, t]`: `[..., n, t, D]`."""
    return x.at[..., positions, :].get(mode="promise_in_bounds")


def _penalties(tiles: Tiles, bias: jax.Array | None, groups: int) -> jax.Array:
    """What to add to the logits, bias or a mask: float32 `[g or 1, r or 1, n, s, t]`."""
    spans = [offsets.shape for offsets in tiles.offsets]
    sizes = tuple(itertools.chain(*spans))  # c_1, t_1, s_1, c_2, ...
    order = [1 + i for part in (0, 2, 1) for i in range(part, len(sizes), 3)]
    patterns, queries, keys = map(math.prod, zip(*spans, strict=True))

    seen = functools.reduce(np.multiply.outer, (o.reshape(-1) >= 0 for o in tiles.offsets))
    table = jnp.zeros((1, *seen.shape)) if bias is None else bias.astype(jnp.float32)
    for axis, offsets in enumerate(tiles.offsets if bias is not None else (), start=1):
        # A product with a 0/1 matrix: the gradient of a gather would add one number at a time.
        chosen = jax.nn.one_hot(offsets.reshape(-1), table.shape[axis], axis=0)
        table = jnp.tensordot(table, chosen, (axis, 0), precision=lax.Precision.HIGHEST)
        table = jnp.moveaxis(table, -1, axis)
    penalties = jnp.where(seen[None], table, _UNSEEN).reshape(-1, *sizes).transpose(0, *order)
    penalties = penalties.reshape(-1, patterns, keys, queries)[:, tiles.patterns]
    return penalties.reshape(1 if bias is None else groups, -1, *penalties.shape[1:])
