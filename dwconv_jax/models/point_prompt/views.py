"""Where a cloud is seen from, and how training distorts what is seen."""

import jax
import jax.numpy as jnp
import numpy as np

# Azimuth and elevation of the reference's random views, in units of pi.
_AZIMUTHS, _ELEVATIONS = (0.04, 1.94), (-0.4, -0.2)
_SCALES, _SHIFT = (2 / 3, 3 / 2), 0.2


def rotation(azimuth: jax.Array, elevation: jax.Array) -> jax.Array:
    """Rotations that turn clouds to a viewer, who then drops the third coordinate.

    First by minus the elevation around the horizontal axis (sin azimuth, -cos azimuth, 0), then by
    minus the azimuth around the vertical axis, which is the third.

    Args:
      azimuth: in radians, any shape.
      elevation: in radians, of the same shape.

    Returns:
      float32 `[..., 3, 3]`; `points @ R.T` is the rotated cloud.
    """
    vertical = jnp.stack([0 * azimuth, 0 * azimuth, 0 * azimuth + 1], -1)
    horizontal = jnp.stack([jnp.sin(azimuth), -jnp.cos(azimuth), 0 * azimuth], -1)
    around_vertical = _around(vertical, -azimuth)
    around_horizontal = _around(horizontal, -elevation)
    return jnp.matmul(around_vertical, around_horizontal, precision=jax.lax.Precision.HIGHEST)


def _around(axis: jax.Array, angle: jax.Array) -> jax.Array:
    """Rotations by angles `[...]` around unit vectors `[..., 3]` (Rodrigues)."""
    x, y, z = axis[..., 0], axis[..., 1], axis[..., 2]
    zero = 0 * x
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*axis.shape, 3)
    outer = axis[..., :, None] * axis[..., None, :]
    cos, sin = jnp.cos(angle)[..., None, None], jnp.sin(angle)[..., None, None]
    identity = jnp.broadcast_to(jnp.eye(3, dtype=axis.dtype), outer.shape)
    return cos * identity + sin * cross + (1 - cos) * outer


def turn(points: jax.Array, rotations: jax.Array) -> jax.Array:
    """Rotates clouds `[B, N, 3]` by `[3, 3]`, or each by its own of `[B, 3, 3]`."""
    rotations = jnp.broadcast_to(rotations, (len(points), 3, 3))
    return jnp.einsum("bnc,bdc->bnd", points, rotations, precision=jax.lax.Precision.HIGHEST)


def evaluation_rotations(count: int) -> jax.Array:
    """The fixed views of the reference.

    Args:
      count: 8 for eight azimuths at one elevation, as during its training; 40 for ten azimuths at
        four elevations, as in its final test; any other number for as many azimuths.

    Returns:
      float32 `[count, 3, 3]`; see `rotation`.
    """
    if count == 40:
        azimuths, elevations = np.linspace(0, 2, 10, endpoint=False), np.linspace(-0.4, -0.2, 4)
    else:
        azimuths, elevations = np.linspace(0.1, 2, count, endpoint=False), np.array([-0.35])
    angles = np.stack(np.meshgrid(azimuths, elevations)).reshape(2, -1) * np.pi
    return rotation(*jnp.asarray(angles, jnp.float32))


def random_views(key: jax.Array, count: int) -> jax.Array:
    """Draws a rotation for each of `count` clouds: `[count, 3, 3]`."""
    azimuth_key, elevation_key = jax.random.split(key)
    low, high = (np.pi * x for x in _AZIMUTHS)
    azimuth = jax.random.uniform(azimuth_key, (count,), minval=low, maxval=high)
    low, high = (np.pi * x for x in _ELEVATIONS)
    return rotation(azimuth, jax.random.uniform(elevation_key, (count,), minval=low, maxval=high))


def scale_and_shift(key: jax.Array, points: jax.Array) -> jax.Array:
    """Scales and shifts every axis of every cloud `[B, N, 3]` by a random amount."""
    scale_key, shift_key = jax.random.split(key)
    shape = (len(points), 1, 3)
    scale = jax.random.uniform(scale_key, shape, minval=_SCALES[0], maxval=_SCALES[1])
    return points * scale + jax.random.uniform(shift_key, shape, minval=-_SHIFT, maxval=_SHIFT)
