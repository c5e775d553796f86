"""Maps cut into blocks, each of which sees itself: windows, grids and the whole map."""

import abc
import dataclasses
from typing import Any

import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity.product import AxisIndex, AxisShape, Product, combine
from dwconv_jax.ops.connectivity.sizes import Size, at_least, entries, num_axes_of, per_axis


@dataclasses.dataclass(frozen=True)
class Cut:
    """How one axis is cut: padded on the right to `num * length`, rolled by `-shift`, and split.

    Attributes:
      num: blocks.
      length: positions of a block.
      span: the longest block that shares its relative positions; `length` unless windows shrink.
      shift: how far the axis is rolled back.
      strided: whether the positions of a block lie `num` apart, instead of side by side.
    """

    num: int
    length: int
    span: int
    shift: int = 0
    strided: bool = False

    @property
    def shape(self) -> AxisShape:
        """The sizes along the axis."""
        return AxisShape(self.num, self.length, self.length, 2 * self.span - 1, self.span - 1)

    def index(self, size: int) -> AxisIndex:
        """The positions along an axis of that size."""
        padded = self.num * self.length
        positions = (np.arange(padded) + self.shift) % padded
        if self.strided:
            outputs = positions.reshape(self.length, self.num).T
        else:
            outputs = positions.reshape(self.num, self.length)
        outputs = np.where(outputs < size, outputs, -1)
        place = np.arange(self.length)
        relative = place[:, None] - place + self.span - 1  # Swin's: query minus key
        return AxisIndex(outputs, outputs[:, None], relative[None])

    def behind_seam(self) -> np.ndarray:
        """Which places of the rolled axis came around: bool `[num, length]`."""
        padded = self.num * self.length
        return (np.arange(padded) >= padded - self.shift).reshape(self.num, self.length)


class Blocks(Product, abc.ABC):
    """A map cut into blocks, all of whose positions see each other: `Q = K`."""

    size_independent = True

    @abc.abstractmethod
    def cuts(self, *size: int) -> list[Cut]:
        """How each axis is cut."""

    def axis_shapes(self, *size: int) -> list[AxisShape]:
        """The sizes along each axis."""
        return [cut.shape for cut in self.cuts(*size)]

    def axes(self, *size: int) -> list[AxisIndex]:
        """The index math along each axis."""
        self.check(*size)
        return [cut.index(length) for cut, length in zip(self.cuts(*size), size, strict=True)]


@dataclasses.dataclass(frozen=True, init=False)
class Window(Blocks):
    """Windows side by side, after rolling the map by minus the shift.

    The map is zero-padded on the right of each axis to a multiple of the window, rolled,
    partitioned, mixed inside each window, rolled back and cropped. `Window((None, 7))` makes
    stripes, as high as the map; `Window((1, None))` rows.
    """

    window_size: tuple[int | None, ...]
    shift: Size
    shrink: bool

    def __init__(
        self,
        window_size: int | tuple[int | None, ...] | None,
        shift: int | Size = 0,
        *,
        shrink: bool = False,
    ):
        """Creates the windows.

        Args:
          window_size: along each axis; None for the whole axis.
          shift: positions to roll each axis by; smaller than the window.
          shrink: whether windows shrink, and do not shift, where the map is no larger than they
            are. Square windows shrink to the shorter side of the map, as in Swin's classifiers;
            others along each axis for itself, as in Video Swin.

        Raises:
          UserError: for a shift that is not smaller than the window.
        """
        axes = num_axes_of(window_size=window_size, shift=shift)
        given = entries(
            "window_size",
            window_size,
            axes,
            lambda w: w is None or at_least(1)(w),
            "an int >= 1 or None",
        )
        object.__setattr__(self, "window_size", tuple(w if w is None else int(w) for w in given))
        object.__setattr__(self, "shift", per_axis("shift", shift, 0, axes))
        object.__setattr__(self, "shrink", shrink)
        object.__setattr__(self, "num_axes", axes)
        object.__setattr__(self, "fixed_blocks", None not in self.window_size)
        if any(s >= (w or 1) for s, w in zip(self.shift, self.window_size, strict=True)):
            raise UserError(
                f"shift={self.shift} must be smaller than window_size={self.window_size}"
            )

    def unrolled(self) -> "Window":
        """The same windows on a map that is already rolled."""
        return Window(self.window_size, shrink=self.shrink)

    def cuts(self, *size: int) -> list[Cut]:
        """How each axis is cut."""
        spans = [w or n for w, n in zip(self.window_size, size, strict=True)]
        lengths, shifts = list(spans), list(self.shift)
        if self.shrink:
            square = len(size) == 2 and self.fixed_blocks and len(set(spans)) == 1
            for i, (n, span) in enumerate(zip(size, spans, strict=True)):
                side = min(size) if square else n
                if side <= span:
                    lengths[i], shifts[i] = side, 0
        return [
            Cut(-(-n // length), length, span, shift)
            for n, length, span, shift in zip(size, lengths, spans, shifts, strict=True)
        ]

    def across_seam(self, *size: int) -> np.ndarray | None:
        """Which queries and keys lie on different sides of the roll's seam: bool `[N, Q, K]`."""
        cuts = self.cuts(*size)
        if not any(cut.shift for cut in cuts):
            return None
        region = combine([cut.behind_seam().astype(int) for cut in cuts], (2,) * len(cuts))
        return region[:, :, None] != region[:, None, :]


@dataclasses.dataclass(frozen=True, init=False)
class Grid(Blocks):
    """A grid over the whole map: blocks of positions that lie equally far apart (MaxViT).

    Each axis is zero-padded on the right to a multiple `g * n` of the grid size `g`; a block has
    `g` positions along it, `n` apart.
    """

    fixed_blocks = True
    size_independent = False

    grid_size: Size

    def __init__(self, grid_size: int | Size):
        """Creates the grid.

        Args:
          grid_size: positions of a block along each axis.
        """
        axes = num_axes_of(grid_size=grid_size)
        object.__setattr__(self, "grid_size", per_axis("grid_size", grid_size, 1, axes))
        object.__setattr__(self, "num_axes", axes)
        object.__setattr__(self, "shift", (0,) * axes)

    def cuts(self, *size: int) -> list[Cut]:
        """How each axis is cut."""
        return [
            Cut(-(-n // length), length, length, strided=True)
            for n, length in zip(size, self.grid_size, strict=True)
        ]

    def unrolled(self) -> Window:
        """The windows that rolling brings each block together in."""
        return Window(self.grid_size)

    def rolled_from(self, places: Any, length: Any, axis: int) -> Any:
        """Where the map has what lies at `places` once blocks lie side by side.

        `length` must be a multiple of the grid.
        """
        size = self.grid_size[axis]
        return places % size * -(-length // size) + places // size

    def rolled_to(self, positions: Any, length: Any, axis: int) -> Any:
        """The inverse of `rolled_from`."""
        size = self.grid_size[axis]
        apart = -(-length // size)
        return positions % apart * size + positions // apart


@dataclasses.dataclass(frozen=True)
class Global(Blocks):
    """Every position sees the whole map: one block, `N = 1` and `Q = K` its size."""

    num_axes = None
    single_block = True

    def cuts(self, *size: int) -> list[Cut]:
        """Each axis is one block."""
        return [Cut(1, n, n) for n in size]
