"""Which positions connect: sliding kernels, windows and the whole map.

A connectivity cuts the `H * W` output positions into `N` blocks of `Q` positions and lets every
position of a block see `K` input positions. It holds index maths only; the weights are elsewhere.
Order is raster everywhere: positions of the map, blocks, positions in a block, kernel offsets.
"""

import dataclasses

import numpy as np

from dwconv_jax.errors import UserError

Pair = tuple[int, int]


def as_pair(name: str, value: int | Pair, minimum: int) -> Pair:
    """An int or an (h, w) pair as a pair; ValueError names the argument."""
    pair = (value, value) if isinstance(value, int) else value
    legal = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not (legal and all(isinstance(v, int) and v >= minimum for v in pair)):
        raise UserError(
            f"{name} must be an int >= {minimum} or an (h, w) pair of them, got {value!r}"
        )
    return (pair[0], pair[1])


@dataclasses.dataclass(frozen=True, init=False)
class Sliding:
    """A kernel that slides over the zero-padded map with stride 1: one block for each position.

    `N = H * W`, `Q = 1`, `K = kernel height * kernel width`.
    """

    kernel_size: Pair
    dilation: Pair

    def __init__(self, kernel_size: int | Pair, dilation: int | Pair = 1):
        """Checks that the padding `dilation * (kernel_size - 1) / 2` is whole.

        Raises:
          ValueError: for an even kernel under an odd dilation, which has no centre.
        """
        kernel_size = as_pair("kernel_size", kernel_size, 1)
        dilation = as_pair("dilation", dilation, 1)
        if any(d * (k - 1) % 2 for k, d in zip(kernel_size, dilation, strict=True)):
            raise UserError(
                f"kernel_size={kernel_size} with dilation={dilation} has no centre: an even kernel "
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
        """`(N, Q, K)` on a map of `height` x `width`."""
        return height * width, 1, self.kernel_size[0] * self.kernel_size[1]

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Flat input positions that each output sees, -1 outside the map: int `[N, Q, K]`."""
        axes = [
            np.arange(size)[:, None] + d * np.arange(k) - p
            for size, k, d, p in zip(
                (height, width), self.kernel_size, self.dilation, self.padding, strict=True
            )
        ]
        rows, cols = axes[0][:, None, :, None], axes[1][None, :, None, :]
        return _flat(rows, cols, height, width).reshape(self.block_shape(height, width))

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Flat output position of each place in each block: int `[N, Q]`."""
        return np.arange(height * width)[:, None]

    def unrolled(self) -> "Sliding":
        """Itself: sliding kernels do not roll the map."""
        return self


@dataclasses.dataclass(frozen=True, init=False)
class Window:
    """Windows side by side, after rolling the map by minus the shift.

    The map is zero-padded right and bottom to a multiple of the window, rolled, partitioned, mixed
    inside each window, rolled back and cropped. `N` is the number of windows and `Q = K` their
    area.
    """

    window_size: Pair
    shift: Pair

    def __init__(self, window_size: int | Pair, shift: int | Pair = 0):
        """Raises ValueError for a shift that is not smaller than the window."""
        window_size, shift = as_pair("window_size", window_size, 1), as_pair("shift", shift, 0)
        if any(s >= w for s, w in zip(shift, window_size, strict=True)):
            raise UserError(f"shift={shift} must be smaller than window_size={window_size}")
        object.__setattr__(self, "window_size", window_size)
        object.__setattr__(self, "shift", shift)

    def unrolled(self) -> "Window":
        """The same windows on a map that is rolled already."""
        return Window(self.window_size)

    def grid(self, height: int, width: int) -> Pair:
        """Windows down and across."""
        return -(-height // self.window_size[0]), -(-width // self.window_size[1])

    def block_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(N, Q, K)` on a map of `height` x `width`."""
        (rows, cols), area = self.grid(height, width), self.window_size[0] * self.window_size[1]
        return rows * cols, area, area

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Flat input positions that each output sees, -1 outside the map: int `[N, Q, K]`."""
        outputs = self.outputs(height, width)
        return np.repeat(outputs[:, None, :], outputs.shape[1], axis=1)

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Flat output position of each place in each block, -1 in the padding: int `[N, Q]`."""
        rows, cols = [
            ((np.arange(n * w) + s) % (n * w)).reshape(n, w)
            for n, w, s in zip(self.grid(height, width), self.window_size, self.shift, strict=True)
        ]
        flat = _flat(rows[:, None, :, None], cols[None, :, None, :], height, width)
        return flat.reshape(self.block_shape(height, width)[:2])


@dataclasses.dataclass(frozen=True)
class Global:
    """Every position sees the whole map: one block, `N = 1` and `Q = K = H * W`."""

    def block_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """`(N, Q, K)` on a map of `height` x `width`."""
        return 1, height * width, height * width

    def neighbours(self, height: int, width: int) -> np.ndarray:
        """Flat input positions that each output sees: int `[1, H * W, H * W]`."""
        return np.tile(np.arange(height * width), (1, height * width, 1))

    def outputs(self, height: int, width: int) -> np.ndarray:
        """Flat output position of each place in the block: int `[1, H * W]`."""
        return np.arange(height * width)[None]

    def unrolled(self) -> "Global":
        """Itself: the map is not rolled."""
        return self


Connectivity = Sliding | Window | Global


def _flat(rows: np.ndarray, cols: np.ndarray, height: int, width: int) -> np.ndarray:
    inside = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    return np.where(inside, rows * width + cols, -1)
