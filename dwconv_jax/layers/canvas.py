"""Pictures of several sizes in one batch: each map is a canvas, of which a part counts.

Only detection needs it. Whatever a layer does with a canvas makes the part that counts what it
would be on a map that ends there; `WHOLE` is the canvas of maps that count entirely, and changes
nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.layers.pytree import keyed_by_position
from dwconv_jax.ops.connectivity import Connectivity, Pair, Size, Window
from dwconv_jax.ops.dispatch import partition

# `(places, length, axis)` to where the values at places along an axis of that length come from.
Source = Callable[[jax.Array, jax.Array, int], jax.Array]


@keyed_by_position
class Canvas(NamedTuple):
    """Which part of each map counts.

    Attributes:
      extent: int `[B, 2]`, height and width of the part, at the upper left; None for whole maps.
    """

    extent: jax.Array | None = None

    def valid(self, x: jax.Array) -> jax.Array | None:
        """Which positions of `x[B, H, W, C]` count: bool `[B, H, W, 1]`, or None for all."""
        return None if self.extent is None else inside(self.extent, x.shape[1:3])

    def clear(self, x: jax.Array) -> jax.Array:
        """`x[B, H, W, C]` with zeros where it does not count."""
        valid = self.valid(x)
        return x if valid is None else jnp.where(valid, x, 0)

    def mean(self, x: jax.Array) -> jax.Array:
        """The mean over the positions that count, `[B, *spatial, C]` to `[B, C]`, in float32."""
        if self.extent is None:
            return x.mean(range(1, x.ndim - 1), dtype=jnp.float32).astype(x.dtype)
        total = self.clear(x).sum((1, 2), dtype=jnp.float32)
        return (total / self.extent.prod(1, keepdims=True)).astype(x.dtype)

    def strided(self, stride: int) -> "Canvas":
        """The canvas of a map with a stride over this one; a last partial step counts."""
        return self if self.extent is None else Canvas(-(-self.extent // stride))

    def padded(self, multiple: Pair) -> "Canvas":
        """The canvas after padding to multiples of `(h, w)`."""
        if self.extent is None:
            return self
        steps = jnp.asarray(multiple, self.extent.dtype)[None]
        return Canvas(-(-self.extent // steps) * steps)

    def rolled(self, connectivity: Connectivity) -> Connectivity:
        """The connectivity after `roll`, which does the rolling on a canvas."""
        return connectivity if self.extent is None else connectivity.unrolled()

    def roll(self, x: jax.Array, connectivity: Connectivity) -> jax.Array:
        """Rolls the part that counts by the shift, or brings the blocks of a grid together.

        Whole maps roll by themselves.
        """
        return self._moved(x, connectivity, connectivity.rolled_from)

    def unroll(self, x: jax.Array, connectivity: Connectivity) -> jax.Array:
        """The inverse of `roll`."""
        return self._moved(x, connectivity, connectivity.rolled_to)

    def hidden(self, connectivity: Connectivity, map_size: Size) -> jax.Array | None:
        """Which keys do not count: bool `[B or 1, N, Q or 1, K]`, or None if all do."""
        connectivity = self.rolled(connectivity)
        if self.extent is None or (isinstance(connectivity, Window) and connectivity.fixed_blocks):
            # Such windows lie inside or outside of what counts, never across its border.
            hidden = connectivity.hidden(*map_size)
            return None if hidden is None else jnp.asarray(hidden)[None]
        valid = inside(self.extent, map_size).reshape(len(self.extent), -1)
        seen = connectivity.seen(*map_size)
        return jnp.asarray(seen < 0)[None] | ~valid[:, np.maximum(seen, 0)]

    def across_seam(self, connectivity: Connectivity, map_size: Size) -> jax.Array | None:
        """Which queries and keys only the roll brought together: bool `[B or 1, N, Q, K]`."""
        if self.extent is None:
            across = connectivity.across_seam(*map_size)
            return None if across is None else jnp.asarray(across)[None]
        if not any(connectivity.shift):
            return None
        region = self._regions(connectivity, map_size)
        return region[..., :, None] != region[..., None, :]

    def check(self, connectivity: Connectivity, fixed_size: bool) -> None:
        """UserError for a layer that a canvas cannot have.

        Args:
          connectivity: of the layer.
          fixed_size: whether the layer depends on the size of the map.
        """
        if self.extent is None:
            return
        if connectivity.num_axes not in (None, 2):
            raise UserError(f"a canvas has two axes, got {connectivity}")
        if fixed_size or not self.rolled(connectivity).size_independent:
            raise UserError(
                f"a layer over {connectivity} depends on the size of the map, so all images of a "
                "batch must have one size"
            )

    def _moved(self, x: jax.Array, connectivity: Connectivity, source: Source) -> jax.Array:
        if self.extent is None or connectivity.unrolled() == connectivity:
            return x
        return move_inside(x, source, self.extent)

    def _regions(self, connectivity: Connectivity, map_size: Size) -> jax.Array:
        """Labels of the parts that rolling brought together, int32 `[B, N, Q]`."""
        assert self.extent is not None
        behind = [
            jnp.arange(size)[None] >= self.extent[:, axis, None] - connectivity.shift[axis]
            for axis, size in enumerate(map_size)
        ]
        rows, cols = (side.astype(jnp.int32) for side in behind)
        region = 2 * rows[:, :, None] + cols[:, None, :]
        return partition(region[..., None], connectivity.unrolled())[..., 0]


WHOLE = Canvas()


def inside(extent: jax.Array, map_size: tuple[int, ...]) -> jax.Array:
    """Which positions of a map lie within the extent, int `[B, 2]`: bool `[B, H, W, 1]`."""
    rows, cols = (jnp.arange(n)[None] < extent[:, i, None] for i, n in enumerate(map_size))
    return rows[:, :, None, None] & cols[:, None, :, None]


def move_inside(x: jax.Array, source: Source, extent: jax.Array) -> jax.Array:
    """Moves what lies within the extent, int `[B, 2]`, along both axes of maps `[B, H, W, C]`."""
    for axis in (0, 1):
        n = extent[:, axis, None]
        place = jnp.arange(x.shape[axis + 1])[None]
        index = jnp.where(place < n, source(place, jnp.maximum(n, 1), axis), place)
        index = index[:, None, :, None] if axis else index[:, :, None, None]
        x = jnp.take_along_axis(x, index, axis + 1)
    return x
