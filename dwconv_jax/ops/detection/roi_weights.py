"""The weight of each row and each column of a map in each bin of RoIAlign."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Regions(NamedTuple):
    """Boxes, each on a level of a pyramid.

    Attributes:
      levels: int `[B, R]`, the map of each box.
      boxes: float32 `[B, R, 4]`, in positions of that map.
      sizes: int `[B, R, 2]`, height and width of that map without its padding.
    """

    levels: jax.Array
    boxes: jax.Array
    sizes: jax.Array


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
    return region_weights(boxes / stride, own_size, map_size, output_size)


def region_weights(
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
