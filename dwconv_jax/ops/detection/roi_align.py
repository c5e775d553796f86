"""RoIAlign (He et al., 2017), exact: a bin has as many samples as pixels.

The value of a bin is the mean over a grid of samples, each bilinear in its row and its column. It
is therefore a matrix product: the weights of rows, times the map, times the weights of columns.
This form has a static shape for any region of interest, runs on matrix units, and needs no scatter
in its gradient. CPUs skip the zeros of the weights; see `roi_rows`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import export, lax

from dwconv_jax.ops.checks import check_boxes, check_map
from dwconv_jax.ops.detection import roi_rows
from dwconv_jax.ops.detection.roi_weights import Regions, region_weights
from dwconv_jax.ops.lowerings.linear_map import linear_map
from dwconv_jax.ops.sharding import by_image

# Elements of the intermediate product held at once.
_MAX_ELEMENTS = 2**24


def roi_align(
    features: jax.Array,
    boxes: jax.Array,
    output_size: int,
    *,
    stride: float = 1.0,
    sizes: jax.Array | None = None,
) -> jax.Array:
    """Resamples regions of interest to one size.

    A bin of `b` pixels has `ceil(b)` samples per side, at the centers of as many equal parts.
    Coordinates are shifted by half a pixel ("aligned"). Samples more than a pixel outside the map
    are 0, others outside repeat its border; a box without area gives 0. Differentiable in
    `features` only.

    Args:
      features: `[B, H, W, C]`.
      boxes: `[B, R, 4]`, in pixels of the image; the time grows with the longest side.
      output_size: bins `P` per side.
      stride: distance between positions of the map, in pixels of the image.
      sizes: int `[B, 2]`, height and width of each map without its padding; None for whole maps.

    Returns:
      `[B, R, P, P, C]`.
    """
    check_map(features, "features")
    check_boxes(boxes, "boxes")
    if boxes.ndim != 3 or len(boxes) != len(features):
        raise ValueError(f"boxes must be [{len(features)}, R, 4], got shape {boxes.shape}")
    if sizes is None:
        sizes = jnp.broadcast_to(jnp.asarray(features.shape[1:3]), (len(features), 2))

    def pool(features: jax.Array, boxes: jax.Array, sizes: jax.Array) -> jax.Array:
        levels = jnp.zeros(boxes.shape[:2], jnp.int32)
        own_sizes = jnp.broadcast_to(sizes[:, None], (*levels.shape, 2))
        return _pool(Regions(levels, boxes / stride, own_sizes), (features,), output_size)

    return by_image(pool, features, boxes, sizes)


def roi_align_pyramid(
    pyramid: Sequence[jax.Array],
    boxes: jax.Array,
    output_size: int,
    *,
    strides: Sequence[int] = (4, 8, 16, 32),
    sizes: Sequence[jax.Array] | None = None,
    finest_scale: float = 56.0,
) -> jax.Array:
    """Applies `roi_align` to each box on the level of a feature pyramid that suits its size.

    Args:
      pyramid: maps `[B, H_l, W_l, C]`, finest first.
      boxes: `[B, R, 4]`, in pixels of the image.
      output_size: bins `P` per side.
      strides: distance between positions of each map, in pixels of the image.
      sizes: int `[B, 2]` for each level, height and width without padding; None for whole maps.
      finest_scale: see `pyramid_level`.

    Returns:
      `[B, R, P, P, C]`.
    """
    check_boxes(boxes, "boxes")
    maps = list(pyramid)
    if sizes is None:
        batch = len(maps[0])
        sizes = [jnp.broadcast_to(jnp.asarray(x.shape[1:3]), (batch, 2)) for x in maps]

    def pool(maps: Sequence[jax.Array], boxes: jax.Array, sizes: Sequence[jax.Array]) -> jax.Array:
        levels = pyramid_level(boxes, len(maps), finest_scale)
        own_stride = jnp.asarray(strides, jnp.float32)[levels][..., None]
        own_size = jnp.take_along_axis(jnp.stack(sizes, 1), levels[..., None], axis=1)
        return _pool(Regions(levels, boxes / own_stride, own_size), tuple(maps), output_size)

    return by_image(pool, maps, boxes, sizes)


def pyramid_level(boxes: jax.Array, num_levels: int, finest_scale: float = 56.0) -> jax.Array:
    """The level of the pyramid for each box (Lin et al., 2017, equation 1).

    Args:
      boxes: `[..., 4]`.
      num_levels: number of levels.
      finest_scale: in pixels. A box smaller than a square of twice this side goes to level 0, one
        twice as large to the next level, and so on.

    Returns:
      int32 `[...]`, 0 for the finest.
    """
    check_boxes(boxes)
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    side = jnp.sqrt(sides[..., 0] * sides[..., 1])
    level = jnp.floor(jnp.log2(side / finest_scale + 1e-6))
    return jnp.clip(level, 0, num_levels - 1).astype(jnp.int32)


def _pool(regions: Regions, maps: tuple[jax.Array, ...], output_size: int) -> jax.Array:
    """Pools regions from maps of which the first is the largest, `[B, R, P, P, C]`."""
    regions = lax.stop_gradient(regions)
    sizes = [x.shape[1:3] for x in maps]
    dense = functools.partial(_dense, output_size=output_size)
    if any(map(export.is_symbolic_dim, sum(sizes, ()))) or 0 in regions.levels.shape:
        return dense(regions, maps)

    def pool(regions: Regions, maps: tuple[jax.Array, ...]) -> jax.Array:
        by_rows = functools.partial(roi_rows.pool, output_size=output_size)
        return lax.platform_dependent(regions, maps, cpu=by_rows, default=dense)

    def spread(regions: Regions, g: jax.Array) -> tuple[jax.Array, ...]:
        def transposed(regions: Regions, g: jax.Array) -> tuple[jax.Array, ...]:
            zeros = tuple(jnp.zeros_like(g, shape=x.shape) for x in maps)
            return jax.vjp(functools.partial(dense, regions), zeros)[1](g)[0]

        by_rows = functools.partial(roi_rows.spread, sizes=sizes)
        return lax.platform_dependent(regions, g, cpu=by_rows, default=transposed)

    return linear_map(pool, spread, regions, maps)


def _dense(regions: Regions, maps: tuple[jax.Array, ...], output_size: int) -> jax.Array:
    # A box has weights on its own level only, which is at most as large as the first.
    rows, cols = region_weights(regions.boxes, regions.sizes, maps[0].shape[1:3], output_size)
    pooled = jnp.zeros((), maps[0].dtype)
    for i, x in enumerate(maps):
        own = (regions.levels == i)[..., None, None]
        height, width = x.shape[1:3]
        level_rows = jnp.where(own, rows[..., :height], 0)
        pooled += jax.vmap(_product)(x, level_rows, cols[..., :width])
    return pooled


def _product(features: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """`[R, P, H]` times `[H, W, C]` times `[R, Q, W]`: `[R, P, Q, C]`."""
    rows, cols = rows.astype(features.dtype), cols.astype(features.dtype)

    def pool(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        partial = jnp.einsum("ph,hwc->pwc", weights[0], features)
        return jnp.einsum("qw,pwc->pqc", weights[1], partial)

    elements = rows.shape[1] * features[0].size
    return jax.lax.map(pool, (rows, cols), batch_size=max(1, _MAX_ELEMENTS // elements))
