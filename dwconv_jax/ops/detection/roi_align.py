"""RoIAlign (He et al., 2017), exact: a bin has as many samples as pixels.

The value of a bin is the mean over a grid of samples, each bilinear in its row and its column. It
is therefore a matrix product: the weights of rows, times the map, times the weights of columns.
This form has a static shape for any region of interest, runs on matrix units, and needs no scatter
in its gradient.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_boxes, check_map

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
    rows, cols = box_weights(boxes, sizes, features.shape[1:3], output_size, stride=stride)
    return jax.vmap(_pool)(features, rows, cols)


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
    levels = pyramid_level(boxes, len(maps), finest_scale)
    # A box has weights on its own level only, which is at most as large as the finest.
    own_stride = jnp.asarray(strides, jnp.float32)[levels][..., None]
    own_size = jnp.take_along_axis(jnp.stack(sizes, 1), levels[..., None], axis=1)
    rows, cols = _weights(boxes / own_stride, own_size, maps[0].shape[1:3], output_size)
    pooled = jnp.zeros((), maps[0].dtype)
    for i, x in enumerate(maps):
        own = (levels == i)[..., None, None]
        height, width = x.shape[1:3]
        level_rows = jnp.where(own, rows[..., :height], 0)
        pooled += jax.vmap(_pool)(x, level_rows, cols[..., :width])
    return pooled


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


def box_weights(
    boxes: jax.Array,
    sizes: jax.Array,
    map_size: tuple[int, ...],
    output_size: int,
    *,
    stride: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """The weight of each row and each column of a map in each bin of each box.

    Args:
      boxes: `[B, R, 4]`, in pixels of the image.
      sizes: int `[B, 2]`, height and width of each map without its padding.
      map_size: height and width of the map.
      output_size: bins `P` per side.
      stride: distance between positions of the map, in pixels of the image.

    Returns:
      The weights of rows `[B, R, P, H]` and of columns `[B, R, P, W]`, float32, without gradient.
    """
    own_size = jnp.broadcast_to(sizes[:, None], (*boxes.shape[:2], 2))
    return _weights(boxes / stride, own_size, map_size, output_size)


def _weights(
    boxes: jax.Array, sizes: jax.Array, map_size: tuple[int, ...], output_size: int
) -> tuple[jax.Array, jax.Array]:
    """`box_weights` for boxes `[B, R, 4]` in positions of maps of sizes `[B, R, 2]`."""
    edges = jax.lax.stop_gradient(boxes).astype(jnp.float32) - 0.5
    rows, cols = (
        _side_weights(
            edges[..., axis], edges[..., axis + 2], sizes[..., 1 - axis], length, output_size
        )
        for axis, length in ((1, map_size[0]), (0, map_size[1]))
    )
    return rows, cols


def _side_weights(
    low: jax.Array, high: jax.Array, size: jax.Array, length: int, output_size: int
) -> jax.Array:
    """Weights `[B, R, P, length]` for sides from `low` to `high`, all `[B, R]` like `size`."""
    size = size.astype(jnp.float32)[..., None]
    bin_size = ((high - low) / output_size)[..., None]
    # Boxes without a positive, finite size have no samples.
    count = jnp.where(jnp.isfinite(bin_size), jnp.maximum(jnp.ceil(bin_size), 0), 0)
    step = bin_size / jnp.maximum(count, 1)
    start = low[..., None] + jnp.arange(output_size, dtype=jnp.float32)[None, None] * bin_size
    position = jnp.arange(length, dtype=jnp.float32)[None, None, None]

    def add_sample(k: jax.Array, total: jax.Array) -> jax.Array:
        sample = start + (k + 0.5) * step
        counts = (k < count) & (sample >= -1) & (sample <= size)
        sample = jnp.clip(sample, 0, size - 1)[..., None]
        weight = jnp.maximum(1 - jnp.abs(sample - position), 0)
        return total + jnp.where(counts[..., None], weight, 0)

    most = jnp.max(count, initial=0).astype(jnp.int32)
    zeros = jnp.zeros((*start.shape, length), jnp.float32)
    total = jax.lax.fori_loop(0, most, add_sample, zeros)
    return total / jnp.maximum(count, 1)[..., None]


def _pool(features: jax.Array, rows: jax.Array, cols: jax.Array) -> jax.Array:
    """`[R, P, H]` times `[H, W, C]` times `[R, Q, W]`: `[R, P, Q, C]`."""
    rows, cols = rows.astype(features.dtype), cols.astype(features.dtype)

    def pool(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        partial = jnp.einsum("ph,hwc->pwc", weights[0], features)
        return jnp.einsum("qw,pwc->pqc", weights[1], partial)

    elements = rows.shape[1] * features[0].size
    return jax.lax.map(pool, (rows, cols), batch_size=max(1, _MAX_ELEMENTS // elements))
