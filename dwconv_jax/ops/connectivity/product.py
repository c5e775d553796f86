"""Connectivities that are a product of one for each axis."""

import abc
import functools
import math
from typing import NamedTuple

import numpy as np

from dwconv_jax.ops.connectivity.protocol import Connectivity
from dwconv_jax.ops.connectivity.sizes import Size


class AxisShape(NamedTuple):
    """Sizes along one axis.

    Attributes:
      blocks: how many there are.
      outputs: positions of a block.
      seen: positions that it sees.
      differences: how many relative positions of query and key there are.
      origin: which of them is a position relative to itself.
    """

    blocks: int
    outputs: int
    seen: int
    differences: int
    origin: int

    @property
    def offsets(self) -> np.ndarray:
        """Each relative position, in positions or taps: int `[differences]`."""
        return np.arange(self.differences) - self.origin


class AxisIndex(NamedTuple):
    """Index math along one axis, for `n` blocks of `q` outputs that see `k` positions.

    Attributes:
      outputs: the position of each output, -1 in padding: int `[n, q]`.
      seen: the positions that it sees, -1 where it sees none: int `[n, q or 1, k]`.
      relative: the relative position of query and key: int `[n or 1, q, k]`.
    """

    outputs: np.ndarray
    seen: np.ndarray
    relative: np.ndarray


class Product(Connectivity, abc.ABC):
    """Defined axis by axis: a block is a block along every axis, and sees their product."""

    @abc.abstractmethod
    def axis_shapes(self, *size: int) -> list[AxisShape]:
        """The sizes along each axis."""

    @abc.abstractmethod
    def axes(self, *size: int) -> list[AxisIndex]:
        """The index math along each axis."""

    def block_shape(self, *size: int) -> tuple[int, int, int]:
        """`(N, Q, K)` on a map."""
        blocks, outputs, seen, *_ = zip(*self.axis_shapes(*size), strict=True)
        return math.prod(blocks), math.prod(outputs), math.prod(seen)

    def outputs(self, *size: int) -> np.ndarray:
        """Flat output position of each place in each block, -1 in padding: int `[N, Q]`."""
        return combine([axis.outputs for axis in self.axes(*size)], size)

    def neighbours(self, *size: int) -> np.ndarray:
        """Flat input positions that each output sees, -1 where it sees none: int `[N, Q, K]`."""
        return np.broadcast_to(self.seen(*size), self.block_shape(*size))

    def seen(self, *size: int) -> np.ndarray:
        """`neighbours`, or int `[N, 1, K]` where all outputs of a block see the same positions."""
        return combine(self._spread_alike([axis.seen for axis in self.axes(*size)], *size), size)

    def num_relative_positions(self, *size: int) -> int:
        """One for each relative position of query and key."""
        return math.prod(axis.differences for axis in self.axis_shapes(*size))

    def relative_positions(self, *size: int) -> np.ndarray:
        """The row of the table for each query and key: int `[N or 1, Q, K]`."""
        differences = tuple(axis.differences for axis in self.axis_shapes(*size))
        relative = [axis.relative for axis in self.axes(*size)]
        return combine(self._spread_alike(relative, *size), differences)

    def relative_offsets(self, *size: int) -> np.ndarray:
        """Where each relative position lies, in positions or taps: int `[R, num_axes]`."""
        along = [axis.offsets for axis in self.axis_shapes(*size)]
        return np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, len(along))

    def _spread_alike(self, axes: list[np.ndarray], *size: int) -> list[np.ndarray]:
        """Index arrays `[n or 1, q or 1, k]`, spread over blocks and outputs if one of them is."""
        spread = [any(axis.shape[i] > 1 for axis in axes) for i in range(3)]
        return [
            np.broadcast_to(axis, [n if s else 1 for n, s in zip(shape[:3], spread, strict=True)])
            for axis, shape in zip(axes, self.axis_shapes(*size), strict=True)
        ]


def combine(axes: list[np.ndarray], size: Size) -> np.ndarray:
    """Flat positions from those along each axis, raster over every array axis.

    Args:
      axes: positions along each axis of the map, arrays of the same rank; -1 for none.
      size: of the map.

    Returns:
      int, the product of the arrays' shapes; -1 where an axis has none.
    """
    count = len(axes)
    shape = tuple(math.prod(lengths) for lengths in zip(*(a.shape for a in axes), strict=True))
    spread = [
        # Array axis `i` of map axis `a` becomes axis `i * count + a`.
        axis.reshape([n if a == j else 1 for n in axis.shape for j in range(count)])
        for a, axis in enumerate(axes)
    ]
    steps = [math.prod(size[a + 1 :]) for a in range(count)]
    flat = functools.reduce(np.add, (p * step for p, step in zip(spread, steps, strict=True)))
    there = functools.reduce(np.logical_and, (positions >= 0 for positions in spread))
    return np.where(there, flat, -1).reshape(shape)
