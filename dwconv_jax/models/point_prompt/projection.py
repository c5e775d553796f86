"""Geometry-preserved projection: the features of points, summed where they fall into a picture."""

import jax
import jax.numpy as jnp

# Pixels of the object's longer side that the 3x3 mark of a point needs beside the point's own.
_BORDER = 3


def pixels_of(points: jax.Array, object_size: int) -> jax.Array:
    """The pixel of each point, seen along the third axis.

    The longer side of a cloud's bounding box spans the picture, but for a border of one pixel, and
    the box is in the middle. The first coordinate counts rows.

    Args:
      points: `[B, N, 3]`; a cloud without extent falls into one pixel.
      object_size: height and width of the picture, even.

    Returns:
      int32 `[B, N, 2]`, row and column in 1..`object_size` - 2.
    """
    seen = points[..., :2]
    low, high = seen.min(1, keepdims=True), seen.max(1, keepdims=True)
    cell = (high - low).max(-1, keepdims=True) / (object_size - _BORDER)
    cells = jnp.floor((seen - low) / jnp.where(cell > 0, cell, 1)).astype(jnp.int32) + 1
    middle = (cells.max(1, keepdims=True) + cells.min(1, keepdims=True)) // 2
    return cells + object_size // 2 - 1 - middle


def scatter(features: jax.Array, pixels: jax.Array, size: int) -> jax.Array:
    """Adds the features of each point to the 3x3 pixels around its own.

    Args:
      features: `[B, N, C]`.
      pixels: int `[B, N, 2]`, row and column, at least one pixel from the border.
      size: height and width of the map.

    Returns:
      float32 `[B, size, size, C]`, zero where no point is.
    """

    def one(features: jax.Array, pixels: jax.Array) -> jax.Array:
        flat = pixels[:, 0] * size + pixels[:, 1]
        return jax.ops.segment_sum(features, flat, num_segments=size * size)

    sums = jax.vmap(one)(features.astype(jnp.float32), pixels)
    maps = sums.reshape(len(features), size, size, features.shape[-1])
    # Summing first and spreading then takes a ninth of the scattered rows.
    return _sum_of_three(_sum_of_three(maps, 1), 2)


def _sum_of_three(maps: jax.Array, axis: int) -> jax.Array:
    """The sum of each position and its two neighbors along an axis whose ends are zero."""
    return maps + jnp.roll(maps, 1, axis) + jnp.roll(maps, -1, axis)


def pad_to(maps: jax.Array, size: int) -> jax.Array:
    """Surrounds square maps `[B, S, S, C]` with zeros; `size` - S is even."""
    border = (size - maps.shape[1]) // 2
    return jnp.pad(maps, ((0, 0), (border, border), (border, border), (0, 0)))
