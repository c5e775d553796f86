"""RoIAlign (He et al., 2017), exact: as many samples in a bin as it has pixels.

The value of a bin is the mean over a grid of samples, each bilinear in its row and its column, so
it is a product: rows' weights times the map times columns' weights. Written so it has a static
shape for any region of interest, runs on matrix units and needs no scatter in its gradient.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_boxes, check_map

# Elements of the intermediate product that are held at once.
_MAX_ELEMENTS = 2**24


def roi_align(
    features: jax.Array,
    boxes: jax.Array,
    output_size: int,
    *,
    stride: float = 1.0,
    sizes: jax.Array | None = None,
) -> jax.Array:
    """Features of regions of interest, resampled to one size.

    A bin `b` of a side from `lo` to `hi` has `g = ceil(b)` samples at the centres of `g` equal
    parts. Coordinates are shifted by half a pixel ("aligned"); samples more than a pixel outside
    the map are 0, others outside repeat its border; a box without area gives 0. Differentiable in
    `features` alone.

    Args:
      features: `[B, H, W, C]`.
      boxes: `[B, R, 4]`, in pixels of the image; time grows with the longest side.
      output_size: bins `P` of each side.
      stride: pixels of the image between positions of the map.
      sizes: int `[B, 2]`, height and width of the part of each map that counts, which ends at its
        border; None for the whole map.

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
    """`roi_align` of each box on the level of a feature pyramid that suits its size.

    Args:
      pyramid: maps `[B, H_l, W_l, C]`, finest first.
      boxes: `[B, R, 4]`, in pixels of the image.
      output_size: bins `P` of each side.
      strides: pixels of the image between positions of each map.
      sizes: the part of each map that counts, int `[B, 2]` for each level; None for all of it.
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
    # Every box has weights on its own level alone, which is at most as large as the finest.
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
      num_levels: levels there are.
      finest_scale: boxes smaller than twice this side (in pixels, of a square) go to level 0, and
        twice as large ones to the next.

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
    """What each row and each column of a map adds to each bin of each box.

    Args:
      boxes: `[B, R, 4]`, in pixels of the image.
      sizes: int `[B, 2]`, height and width of the part of the map that counts.
      map_size: height and width of the map.
      output_size: bins `P` of each side.
      stride: pixels of the image between positions of the map.

    Returns:
      Of rows `[B, R, P, H]` and of columns `[B, R, P, W]`, float32, without gradient.
    """
    own_size = jnp.broadcast_to(sizes[:, None], (*boxes.shape[:2], 2))
    return _weights(boxes / stride, own_size, map_size, output_size)


def _weights(
    boxes: jax.Array, sizes: jax.Array, map_size: tuple[int, ...], output_size: int
) -> tuple[jax.Array, jax.Array]:
    """`box_weights` of boxes `[B, R, 4]` in positions of maps of sizes `[B, R, 2]`."""
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
    """Weights `[B, R, P, length]` of the sides from `low` to `high`, `[B, R]` as `size`."""
    size = size.astype(jnp.float32)[..., None]
    bin_size = ((high - low) / output_size)[..., None]
    # Boxes of no or of no finite size have no samples.
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
