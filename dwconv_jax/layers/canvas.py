"""Pictures of several sizes in one batch: each map is a canvas, of which a part counts.

An extent is int `[B, 2]`, the height and width of that part, at the upper left. What layers do
with it makes the part that counts what it would be on a map that ends there.
"""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.connectivity import Window


def inside(extent: jax.Array, map_size: tuple[int, ...]) -> jax.Array:
    """Which positions of a map count: bool `[B, H, W, 1]`."""
    rows, cols = (jnp.arange(n)[None] < extent[:, i, None] for i, n in enumerate(map_size))
    return rows[:, :, None, None] & cols[:, None, :, None]


def keep_inside(x: jax.Array, extent: jax.Array | None) -> jax.Array:
    """`[B, H, W, C]` with zeros where it does not count; unchanged without an extent."""
    return x if extent is None else jnp.where(inside(extent, x.shape[1:3]), x, 0)


def mean_inside(x: jax.Array, extent: jax.Array | None) -> jax.Array:
    """The mean of the positions that count, `[B, H, W, C]` to `[B, C]`, summed in float32."""
    if extent is None:
        return x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)
    total = keep_inside(x, extent).sum((1, 2), dtype=jnp.float32)
    return (total / extent.prod(1, keepdims=True)).astype(x.dtype)


def divide_up(extent: jax.Array | None, divisor: int) -> jax.Array | None:
    """The extent of a map with a stride over this one, where the last step may be cut short."""
    return None if extent is None else -(-extent // divisor)


def round_up(extent: jax.Array | None, multiple: tuple[int, int]) -> jax.Array | None:
    """The extent after padding to multiples of `(h, w)`."""
    if extent is None:
        return None
    steps = jnp.asarray(multiple, extent.dtype)[None]
    return -(-extent // steps) * steps


def roll_inside(x: jax.Array, shift: tuple[int, int], extent: jax.Array) -> jax.Array:
    """`jnp.roll` by `(rows, columns)` of the part of each map `[B, H, W, C]` that counts."""
    for axis in (1, 2):
        n = extent[:, axis - 1, None]
        place = jnp.arange(x.shape[axis])[None]
        source = jnp.where(place < n, (place - shift[axis - 1]) % jnp.maximum(n, 1), place)
        index = source[:, :, None, None] if axis == 1 else source[:, None, :, None]
        x = jnp.take_along_axis(x, index, axis)
    return x


def seam_regions(window: Window, map_size: tuple[int, ...], extent: jax.Array) -> jax.Array:
    """Labels of the parts that rolling brought together, int32 `[B, N, Q]`.

    Args:
      window: with the shift that `roll_inside` rolled by.
      map_size: height and width of the map, multiples of the window.
      extent: int `[B, 2]`, multiples of the window.
    """
    behind = []
    for axis in (0, 1):
        place = jnp.arange(map_size[axis]).reshape(1, -1, window.window_size[axis])
        behind.append(place >= (extent[:, axis] - window.shift[axis])[:, None, None])
    rows, cols = (side.astype(jnp.int32) for side in behind)
    labels = 2 * rows[:, :, None, :, None] + cols[:, None, :, None, :]
    batch, down, across, height, width = labels.shape
    return labels.reshape(batch, down * across, height * width)
