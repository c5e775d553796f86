"""Which positions connect: sliding kernels, windows and the whole map.

A connectivity cuts the `H * W` output positions into `N` blocks of `Q` positions, and lets every
position of a block see `K` input positions. It is index math; the weights are elsewhere. Order is
raster everywhere: positions of the map, blocks, positions in a block, kernel offsets.
"""

import dataclasses
from numbers import Integral
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from dwconv_jax.errors import UserError

Pair = tuple[int, int]


@runtime_checkable
class Connectivity(Protocol):
    """What the operator and the layers ask of a connectivity.

    To add one, subclass this protocol with a frozen dataclass and define the three methods of index
    math. Everything else has a default that follows from them: override what your connectivity
    knows better. `ops.dispatch.register` gives it a lowering of its own.

    Attributes:
      fixed_blocks: whether `Q` and `K` are the same on every map. If not, layers need `map_size`.
      single_block: whether `N` is 1 on every map, so that sharing over blocks means nothing.
      shift: rows and columns by which the map is rolled up and left before it is cut.
    """

    fixed_blocks: ClassVar[bool] = False
    single_block: ClassVar[bool] = False
    shift: Pair = (0, 0)

    def block_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(N, Q, K)` on a map of `height` x `width`."""
        ...

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Flat output position of each place in each block, -1 in padding: int `[N, Q]`."""
        ...

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Flat input positions that each output sees, -1 outside the map: int `[N, Q, K]`."""
        ...

    def unrolled(self) -> "Connectivity":
        """The same connectivity on a map that is already rolled by `-shift`."""
        return self

    def hidden(self, height: int, width: int) -> np.ndarray | None:
        """Which keys lie outside the map: bool `[N, Q or 1, K]`, or None if none does."""
        outside = self.neighbours(height, width) < 0
        return outside if outside.any() else None

    def across_seam(self, height: int, width: int) -> np.ndarray | None:
        """Which queries and keys only the roll brought together: bool `[N, Q, K]`, or None."""
        return None

    def num_relative_positions(self, map_size: Pair) -> int:
        """Rows of a table of position biases; by default one for each query and key of a block."""
        _, outputs, seen = self.block_shape(*map_size)
        return outputs * seen

    def relative_positions(self, height: int, width: int) -> np.ndarray:
        """The row of the table for each query and key: int `[Q, K]`."""
        _, outputs, seen = self.block_shape(height, width)
        return np.arange(outputs * seen).reshape(outputs, seen)


def as_pair(name: str, value: int | Pair, minimum: int) -> Pair:
    """An int or an (h, w) pair as a pair; UserError names the argument."""
    pair: Any = (value, value) if isinstance(value, Integral) else value
    legal = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not (legal and all(isinstance(v, Integral) and int(v) >= minimum for v in pair)):
        raise UserError(
            f"{name} must be an int >= {minimum} or an (h, w) pair of them, got {value!r}"
        )
    return (int(pair[0]), int(pair[1]))


@dataclasses.dataclass(frozen=True, init=False)
class Sliding(Connectivity):
    """A kernel that slides over the zero-padded map with stride 1: one block for each position.

    `N = H * W`, `Q = 1`, `K = kernel height * kernel width`.
    """

    fixed_blocks = True

    kernel_size: Pair
    dilation: Pair

    def __init__(self, kernel_size: int | Pair, dilation: int | Pair = 1):
        """Checks that the padding `dilation * (kernel_size - 1) / 2` is whole.

        Raises:
          UserError: for an even kernel under an odd dilation, which has no center.
        """
        kernel_size = as_pair("kernel_size", kernel_size, 1)
        dilation = as_pair("dilation", dilation, 1)
        if any(d * (k - 1) % 2 for k, d in zip(kernel_size, dilation, strict=True)):
            raise UserError(
                f"kernel_size={kernel_size} with dilation={dilation} has no center: an even kernel "
                "needs an even dilation; use an odd kernel_size"
            )
        object.__setattr__(self, "kernel_size", kernel_size)
        object.__setattr__(self, "dilation", dilation)

    @property
    def padding(self) -> Pair:
        """Rows and columns of zeros on each side of the map."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation
        return dh * (kh - 1) // 2, dw * (kw - 1) // 2

    def block_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(H * W, 1, K)`."""
        return height * width, 1, self.kernel_size[0] * self.kernel_size[1]

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Every position, a block of its own: int `[N, 1]`."""
        return np.arange(height * width)[:, None]

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Flat input positions under the kernel, -1 in the padding: int `[N, 1, K]`."""
        axes = [
            np.arange(size)[:, None] + d * np.arange(k) - p
            for size, k, d, p in zip(
                (height, width), self.kernel_size, self.dilation, self.padding, strict=True
            )
        ]
        rows, cols = axes[0][:, None, :, None], axes[1][None, :, None, :]
        return _flat(rows, cols, height, width).reshape(self.block_shape(height, width))


@dataclasses.dataclass(frozen=True, init=False)
class Window(Connectivity):
    """Windows side by side, after rolling the map by minus the shift.

    The map is zero-padded at the bottom and right to a multiple of the window, rolled, partitioned,
    mixed inside each window, rolled back and cropped. `N` is the number of windows and `Q = K`
    their area.
    """

    fixed_blocks = True

    window_size: Pair
    shift: Pair
    shrink: bool

    def __init__(self, window_size: int | Pair, shift: int | Pair = 0, *, shrink: bool = False):
        """Creates the windows.

        Args:
          window_size: height and width.
          shift: rows and columns to roll the map by; smaller than the window.
          shrink: whether a map no larger than the window has smaller windows, as large as its
            shorter side, and no shift: Swin's rule for classification.

        Raises:
          UserError: for a shift that is not smaller than the window.
        """
        window_size, shift = as_pair("window_size", window_size, 1), as_pair("shift", shift, 0)
        if any(s >= w for s, w in zip(shift, window_size, strict=True)):
            raise UserError(f"shift={shift} must be smaller than window_size={window_size}")
        object.__setattr__(self, "window_size", window_size)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "shrink", shrink)

    def unrolled(self) -> "Window":
        """The same windows on a map that is already rolled."""
        return Window(self.window_size, shrink=self.shrink)

    def fitted(self, height: int, width: int) -> "Window":
        """The windows on a map of that size: smaller and not shifted where `shrink` applies."""
        side = min(height, width)
        if not self.shrink or side > max(self.window_size):
            return self
        return Window((min(side, self.window_size[0]), min(side, self.window_size[1])))

    def grid(self, height: int, width: int) -> Pair:
        """Windows down and across."""
        window = self.fitted(height, width).window_size
        return -(-height // window[0]), -(-width // window[1])

    def block_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(N, Q, K)` on a map of `height` x `width`, with `Q = K`."""
        (rows, cols), window = self.grid(height, width), self.fitted(height, width).window_size
        return rows * cols, window[0] * window[1], window[0] * window[1]

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Flat position of each place in each window, -1 in the padding: int `[N, Q]`."""
        window = self.fitted(height, width)
        rows, cols = [
            ((np.arange(n * w) + s) % (n * w)).reshape(n, w)
            for n, w, s in zip(
                self.grid(height, width), window.window_size, window.shift, strict=True
            )
        ]
        flat = _flat(rows[:, None, :, None], cols[None, :, None, :], height, width)
        return flat.reshape(self.block_shape(height, width)[:2])

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Every position of the window, for each of its positions: int `[N, Q, K]`."""
        outputs = self.outputs(height, width)
        return np.repeat(outputs[:, None, :], outputs.shape[1], axis=1)

    def hidden(self, height: int, width: int) -> np.ndarray | None:
        """Which keys are padding: bool `[N, 1, K]`, or None if none is."""
        padding = self.outputs(height, width) < 0
        return padding[:, None, :] if padding.any() else None

    def across_seam(self, height: int, width: int) -> np.ndarray | None:
        """Which queries and keys lie on different sides of the roll's seam: bool `[N, Q, K]`."""
        window = self.fitted(height, width)
        if not any(window.shift):
            return None
        rows, cols = (
            # The last `shift` places of the rolled map lie behind the seam.
            (np.arange(n * w) >= n * w - s).reshape(n, w)
            for n, w, s in zip(
                self.grid(height, width), window.window_size, window.shift, strict=True
            )
        )
        region = 2 * rows[:, None, :, None].astype(np.int8) + cols[None, :, None, :]
        region = region.reshape(self.block_shape(height, width)[:2])
        return region[:, :, None] != region[:, None, :]

    def num_relative_positions(self, map_size: Pair) -> int:
        """One for each difference of two positions of a window."""
        return _num_differences(self.window_size)

    def relative_positions(self, height: int, width: int) -> np.ndarray:
        """Rows of the table in Swin's order, query minus key; windows may be smaller than it."""
        return _relative_index(self.fitted(height, width).window_size, self.window_size)


@dataclasses.dataclass(frozen=True)
class Global(Connectivity):
    """Every position sees the whole map: one block, `N = 1` and `Q = K = H * W`."""

    single_block = True

    def block_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(1, H * W, H * W)`."""
        return 1, height * width, height * width

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Every position, all in one block: int `[1, H * W]`."""
        return np.arange(height * width)[None]

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Every position, for each of them: int `[1, H * W, H * W]`."""
        return np.tile(np.arange(height * width), (1, height * width, 1))

    def fitted(self, height: int, width: int) -> Window:
        """The whole map as one window."""
        return Window((height, width))

    def hidden(self, height: int, width: int) -> None:
        """None: there is no padding."""

    def num_relative_positions(self, map_size: Pair) -> int:
        """One for each difference of two positions of the map."""
        return _num_differences(map_size)

    def relative_positions(self, height: int, width: int) -> np.ndarray:
        """Rows of the table in Swin's order, query minus key: int `[H * W, H * W]`."""
        return _relative_index((height, width), (height, width))


def _flat(rows: np.ndarray, cols: np.ndarray, height: int, width: int) -> np.ndarray:
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return np.where(inside, rows * width + cols, -1)


def _num_differences(span: Pair) -> int:
    return (2 * span[0] - 1) * (2 * span[1] - 1)


def _relative_index(block: Pair, span: Pair) -> np.ndarray:
    """Rows of a table for blocks of `span`, for each query and key of one of at most that size."""
    rows, cols = (axis.reshape(-1) for axis in np.indices(block))
    row_difference = rows[:, None] - rows[None] + span[0] - 1
    col_difference = cols[:, None] - cols[None] + span[1] - 1
    return row_difference * (2 * span[1] - 1) + col_difference
