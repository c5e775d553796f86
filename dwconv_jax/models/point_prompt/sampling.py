"""Which points of a cloud to keep, and which are the neighbors of each."""

import jax
import jax.numpy as jnp

# Points whose distances to all others are held at a time.
_TILE = 256


def farthest_points(points: jax.Array, count: int) -> jax.Array:
    """Indices of points that are far from each other (farthest-point sampling).

    The first is point 0; each further one has the largest distance to the nearest of those before.
    Unlike the CUDA code of PointNet++, this does not pass over points close to the origin.

    Args:
      points: `[B, N, 3]`.
      count: how many to choose, at most N.

    Returns:
      int32 `[B, count]`. With fewer than `count` different points, indices occur again.
    """

    def choose(distance: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        # All are infinitely far before the first choice, so that it falls on point 0.
        chosen = jnp.argmax(distance, axis=1)
        point = jnp.take_along_axis(points, chosen[:, None, None], axis=1)
        return jnp.minimum(distance, jnp.square(points - point).sum(-1)), chosen

    # Of the points, so that a mesh splits both alike.
    infinite = jnp.full_like(points[..., 0], jnp.inf)
    _, chosen = jax.lax.scan(choose, infinite, length=count)
    return chosen.T.astype(jnp.int32)


def take_points(points: jax.Array, indices: jax.Array) -> jax.Array:
    """Points `[B, N, C]` by indices `[B, ...]`: `[B, ..., C]`."""
    rows = jnp.take_along_axis(points, indices.reshape(len(points), -1, 1), axis=1)
    return rows.reshape(*indices.shape, points.shape[-1])


def nearest_neighbors(points: jax.Array, count: int) -> jax.Array:
    """Indices of the nearest points of each point, itself included.

    Distances are computed for a tile of points at a time, and from differences: expanding the
    square would lose the distances of close points.

    Args:
      points: `[B, N, 3]`.
      count: neighbors of each point, at most N.

    Returns:
      int32 `[B, N, count]`, nearest first.
    """

    def of_point(point: jax.Array) -> jax.Array:  # [B, 3]
        distance = jnp.square(points - point[:, None]).sum(-1)
        return jax.lax.top_k(-distance, count)[1]

    points = jax.lax.stop_gradient(points)
    return jax.lax.map(of_point, points.swapaxes(0, 1), batch_size=_TILE).swapaxes(0, 1)
