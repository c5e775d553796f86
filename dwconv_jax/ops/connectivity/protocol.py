"""What a connectivity is."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity.sizes import Size


@runtime_checkable
class Connectivity(Protocol):
    """What the operator and the layers ask of a connectivity.

    A connectivity cuts the output positions of a map into `N` blocks of `Q` positions, and lets
    every position of a block see `K` input positions. It is index math; the weights are elsewhere.
    Order is raster everywhere: positions of the map, blocks, positions in a block, and what they
    see. `size` is the map's, one int for each axis.

    To add one, subclass this protocol with a frozen dataclass and define the three methods of index
    math. Everything else has a default that follows from them: override what your connectivity
    knows better. `ops.dispatch.register` gives it a lowering of its own.

    Attributes:
      num_axes: of the maps; None for any number.
      fixed_blocks: whether `Q` and `K` are the same on every map. If not, layers need `map_size`.
      single_block: whether `N` is 1 on every map, so that sharing over blocks means nothing.
      shift: how far the map is rolled back along each axis before it is cut.
    """

    num_axes: int | None = 2
    fixed_blocks: bool = False
    single_block: bool = False
    shift: Size = (0, 0)

    @property
    def size_independent(self) -> bool:
        """Whether a position sees the same ones wherever the map ends, but for those beyond."""
        return self.fixed_blocks

    def block_shape(self, *size: int) -> tuple[int, int, int]:
        """`(N, Q, K)` on a map."""
        ...

    def outputs(self, *size: int) -> np.ndarray:
        """Flat output position of each place in each block, -1 in padding: int `[N, Q]`."""
        ...

    def neighbours(self, *size: int) -> np.ndarray:
        """Flat input positions that each output sees, -1 where it sees none: int `[N, Q, K]`."""
        ...

    def check(self, *size: int) -> None:
        """Raises a UserError where the connectivity does not fit a map."""
        if self.num_axes not in (None, len(size)):
            raise UserError(
                f"{self} is for maps of {self.num_axes} axes, got a map of {len(size)}: {size}"
            )

    def unrolled(self) -> "Connectivity":
        """The same connectivity on a map that is already rolled, by default by `-shift`."""
        return self

    def rolled_from(self, places: Any, length: Any, axis: int) -> Any:
        """Where the map has what lies at `places` after rolling an axis of that length.

        Both may be traced: canvases roll each map by its own length.
        """
        return (places + self.shift[axis]) % length

    def rolled_to(self, positions: Any, length: Any, axis: int) -> Any:
        """The inverse of `rolled_from`."""
        return (positions - self.shift[axis]) % length

    def seen(self, *size: int) -> np.ndarray:
        """`neighbours`, or int `[N, 1, K]` where all outputs of a block see the same positions."""
        return self.neighbours(*size)

    def hidden(self, *size: int) -> np.ndarray | None:
        """Which keys a query does not see: bool `[N, Q or 1, K]`, or None if it sees all."""
        unseen = self.seen(*size) < 0
        return unseen if unseen.any() else None

    def across_seam(self, *size: int) -> np.ndarray | None:
        """Which queries and keys only the roll brought together: bool `[N, Q, K]`, or None."""
        return None

    def num_relative_positions(self, *size: int) -> int:
        """Rows of a table of position biases; by default one for each query and key of a block."""
        _, outputs, seen = self.block_shape(*size)
        return outputs * seen

    def relative_positions(self, *size: int) -> np.ndarray:
        """The row of the table for each query and key: int `[N or 1, Q, K]`."""
        _, outputs, seen = self.block_shape(*size)
        return np.arange(outputs * seen).reshape(1, outputs, seen)

    def relative_offsets(self, *size: int) -> np.ndarray:
        """Where each relative position lies, in positions or taps: int `[R, num_axes]`."""
        raise UserError(f"{self} does not define relative_offsets, which this bias needs")
