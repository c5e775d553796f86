"""Kernels that slide over the map."""

import dataclasses
from typing import Literal, get_args

import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity.product import AxisIndex, AxisShape, Product
from dwconv_jax.ops.connectivity.sizes import Pair, Size, entries, num_axes_of, per_axis

Border = Literal["zero", "clamp", "wrap"]
BORDERS: tuple[str, ...] = get_args(Border)


@dataclasses.dataclass(frozen=True)
class SlidingAxis:
    """A kernel along one axis.

    Positions that are equal modulo the dilation form a group; a kernel stays in its group, where
    its taps are neighbors. `stride` consecutive positions of a group form a block and share the
    kernel of their leader.
    """

    kernel_size: int
    dilation: int
    stride: int
    border: str
    causal: bool

    @property
    def at_fixed_offsets(self) -> bool:
        """Whether every position sees its neighbors at the same offsets."""
        return self.stride == 1 and (self.causal or self.border != "clamp")

    @property
    def reach(self) -> tuple[int, int]:
        """How far the kernel reaches to the left and to the right, in positions."""
        span = self.dilation * (self.kernel_size - 1)
        left = span if self.causal else self.dilation * (self.kernel_size // 2)
        return left, span - left

    def shape(self, size: int) -> AxisShape:
        """The blocks along an axis of that size."""
        step = self.stride * self.dilation
        # The last, partial step has one block for each group that reaches it.
        blocks = (
            size
            if self.stride == 1
            else size // step * self.dilation + min(self.dilation, size % step)
        )
        k = self.kernel_size
        if not self.at_fixed_offsets:
            return AxisShape(blocks, self.stride, k, 2 * k - 1, k - 1)
        return AxisShape(blocks, self.stride, k, k, k - 1 if self.causal else k // 2)

    def index(self, size: int) -> AxisIndex:
        """The positions along an axis of that size."""
        k, d, s = self.kernel_size, self.dilation, self.stride
        positions = np.arange(size)
        first = positions[positions // d % s == 0]
        group, first = first[:, None] % d, first[:, None] // d
        length = -(-(size - group) // d)
        queries = first + np.arange(s)
        outputs = np.where(queries < length, queries * d + group, -1)

        keys = self._first_key(first, length) + np.arange(k)
        if self.border == "wrap":
            seen = ((keys * d + group) % size)[:, None]
        else:
            inside = ((keys >= 0) & (keys < length))[:, None]
            if self.causal:
                inside = inside & (keys[:, None] <= queries[:, :, None])
            seen = np.where(inside, (keys * d + group)[:, None], -1)

        if self.at_fixed_offsets:
            return AxisIndex(outputs, seen, np.arange(k)[None, None])
        relative = keys[:, None] - queries[:, :, None] + k - 1
        return AxisIndex(outputs, seen, relative.clip(0, 2 * k - 2))

    def _first_key(self, first: np.ndarray, length: np.ndarray) -> np.ndarray:
        """The first key of blocks whose first query is `first`, all counted in their group."""
        k, s = self.kernel_size, self.stride
        if self.causal:
            return np.minimum(first + s - 1, length - 1) - k + 1
        start = first + s // 2 - k // 2
        return np.clip(start, 0, length - k) if self.border == "clamp" else start


@dataclasses.dataclass(frozen=True, init=False)
class Sliding(Product):
    """A kernel that slides over the map: one block for each position, or for each `stride`.

    `K` is the product of the kernel sizes and `Q` that of the strides. A position sees the kernel
    around it: `kernel_size // 2` taps to the left, the others to the right. With a stride, the
    positions of a block share the kernel around their middle, which makes blocked local attention
    (HaloNet: `Sliding(b + 2 * h, stride=b)`). All arguments are a value for all axes, or a tuple
    with one for each; without a tuple there are two axes.
    """

    fixed_blocks = True

    kernel_size: Size
    dilation: Size
    stride: Size
    border: tuple[Border, ...]
    causal: tuple[bool, ...]

    def __init__(
        self,
        kernel_size: int | Size,
        dilation: int | Size = 1,
        *,
        stride: int | Size = 1,
        border: Border | tuple[Border, ...] = "zero",
        causal: bool | tuple[bool, ...] = False,
    ):
        """Creates the connectivity.

        Args:
          kernel_size: taps along each axis.
          dilation: positions between taps.
          stride: positions that share the kernel of their leader; at most the kernel size.
            With a dilation, they are positions of the same dilation group.
          border: what lies beyond the map. "zero": zeros, which attention does not see. "clamp":
            the kernel stays inside the map, so that there are always `K` neighbors (NATTEN).
            "wrap": the map is cyclic.
          causal: whether positions see only themselves and those before them.

        Raises:
          UserError: for an illegal value or combination.
        """
        arguments = dict(
            kernel_size=kernel_size, dilation=dilation, stride=stride, border=border, causal=causal
        )
        axes = num_axes_of(**arguments)
        values = {name: per_axis(name, arguments[name], 1, axes)
                  for name in ("kernel_size", "dilation", "stride")}  # fmt: skip
        borders = " or ".join(map(repr, BORDERS))
        values["border"] = entries("border", border, axes, BORDERS.__contains__, borders)
        causal = entries("causal", causal, axes, lambda c: isinstance(c, bool), "True or False")
        for name, value in (values | {"causal": causal}).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "num_axes", axes)
        object.__setattr__(self, "shift", (0,) * axes)
        if any(s > k for s, k in zip(self.stride, self.kernel_size, strict=True)):
            raise UserError(
                f"stride={self.stride} must be at most kernel_size={self.kernel_size}: positions "
                "beyond would see no kernel"
            )
        if any(c and b == "wrap" for c, b in zip(self.causal, self.border, strict=True)):
            raise UserError("causal=True does not go with border='wrap': a cycle has no start")

    def __repr__(self) -> str:
        """The arguments that are not defaults."""
        defaults = dict(dilation=1, stride=1, border="zero", causal=False)
        given = [f"kernel_size={self.kernel_size}"]
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != (default,) * len(value):
                given.append(f"{name}={value}")
        return f"Sliding({', '.join(given)})"

    @property
    def along(self) -> list[SlidingAxis]:
        """The kernel along each axis."""
        each = zip(
            self.kernel_size, self.dilation, self.stride, self.border, self.causal, strict=True
        )
        return [SlidingAxis(*axis) for axis in each]

    @property
    def padding(self) -> Pair:
        """Rows and columns of zeros on each side of the map, if the kernel is plain."""
        (rows, _), (columns, _) = (axis.reach for axis in self.along)
        return rows, columns

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution's: symmetric, over two axes, with zeros beyond the map."""
        return self.num_axes == 2 and all(
            axis.at_fixed_offsets and axis.border == "zero" and axis.reach[0] == axis.reach[1]
            for axis in self.along
        )

    @property
    def shares_keys(self) -> bool:
        """Whether all positions of a block see the same ones."""
        return not any(axis.causal and axis.stride > 1 for axis in self.along)

    @property
    def size_independent(self) -> bool:
        """Whether a position sees the same ones wherever the map ends, but for those beyond."""
        return all(
            axis.stride == 1 if axis.causal else axis.border == "zero" for axis in self.along
        )

    def check(self, *size: int) -> None:
        """Raises a UserError where the kernel does not fit a map."""
        super().check(*size)
        for length, axis in zip(size, self.along, strict=True):
            needed = 1 if axis.causal or axis.border == "zero" else axis.kernel_size * axis.dilation
            if needed > length:
                raise UserError(
                    f"kernel_size * dilation must be at most the size of an axis with "
                    f"border={axis.border!r}, got {axis.kernel_size} * {axis.dilation} on an axis "
                    f"of {length}"
                )

    def axis_shapes(self, *size: int) -> list[AxisShape]:
        """The sizes along each axis."""
        return [axis.shape(length) for axis, length in zip(self.along, size, strict=True)]

    def axes(self, *size: int) -> list[AxisIndex]:
        """The index math along each axis."""
        self.check(*size)
        return [axis.index(length) for axis, length in zip(self.along, size, strict=True)]
