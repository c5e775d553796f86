"""Axial rotary position embeddings."""

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Size

_BASE = 10_000.0


def check_rotary(head_features: int, num_axes: int) -> None:
    """UserError unless heads have as many pairs of channels for every axis."""
    if head_features % (2 * num_axes):
        raise UserError(
            f"rotary=True over {num_axes} axes needs heads whose channels are a multiple of "
            f"{2 * num_axes}, got {head_features}"
        )


def positions(size: Size) -> np.ndarray:
    """The coordinates of each position of a map: float32 `[1, *size, num_axes]`."""
    return np.moveaxis(np.indices(size, dtype=np.float32), 0, -1)[None]


def rotate(x: jax.Array, places: jax.Array | np.ndarray) -> jax.Array:
    """Rotates pairs of channels by angles that grow with the position.

    Each axis of the map has an equal part of a head's channels; the pairs are the two halves of
    the part. Products of two rotated vectors depend on the difference of their positions alone.

    Args:
      x: `[B, *spatial, heads, D]`, `D` a multiple of twice the number of axes.
      places: of each position, `[B or 1, *spatial, axes]`.

    Returns:
      The shape and dtype of `x`; computed in float32.
    """
    axes = places.shape[-1]
    pairs = x.shape[-1] // (2 * axes)
    frequencies = _BASE ** (-np.arange(pairs, dtype=np.float32) / pairs)
    places = jnp.asarray(places, jnp.float32)[..., None, :, None]
    angles = places * jnp.expand_dims(frequencies, range(places.ndim - 1))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    parts = x.astype(jnp.float32).reshape(*x.shape[:-1], axes, 2, pairs)
    first, second = parts[..., 0, :], parts[..., 1, :]
    turned = jnp.stack([first * cos - second * sin, first * sin + second * cos], -2)
    return turned.reshape(x.shape).astype(x.dtype)
