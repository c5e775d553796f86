"""A kernel, how it is specialized for a shape, and how it is launched."""

import dataclasses
from typing import NamedTuple

from dwconv_jax.ops.connectivity import Pair

# Blocks of the gradient kernels that an H100 runs at once, two a multiprocessor.
BLOCKS_AT_ONCE = 264
# Bytes of shared memory that a block may take on every GPU since Ampere. XLA lifts the limit of
# 48 KiB that holds by default.
MOST_SHARED_BYTES = 99 * 1024


class Case(NamedTuple):
    """A depth-wise convolution of stride 1 with zero padding.

    Attributes:
      shape: `(B, H, W, C)`.
      kernel_size: odd rows and columns of the kernel.
      dilation: rows and columns between taps.
      bfloat16: whether the maps are bfloat16 rather than float32.
      per_image: whether every image has a kernel of its own.
    """

    shape: tuple[int, int, int, int]
    kernel_size: Pair
    dilation: Pair = (1, 1)
    bfloat16: bool = True
    per_image: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """A kernel and its launch.

    Attributes:
      kernel: the function's name, and its file's.
      macros: names and values of the constants that specialize the source.
      grid: blocks along x, y and z.
      block: threads of a block along x, y and z.
      shared_bytes: dynamic shared memory.
      partials: arrays that the kernel of a gradient writes, to be summed unless one an image; of
        attention, for each image.
    """

    kernel: str
    macros: tuple[tuple[str, int | float], ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int = 0
    partials: int = 1

    @property
    def definitions(self) -> tuple[str, ...]:
        """The macros as options of a compiler."""
        return tuple(f"-D{name}={value}" for name, value in self.macros)


def shape_macros(case: Case) -> dict[str, int]:
    """The macros that every kernel takes."""
    names = ("BATCH", "H", "W", "C", "KH", "KW", "PER_IMAGE")
    return dict(zip(names, (*case.shape, *case.kernel_size, int(case.per_image)), strict=True))


def ceil_div(a: int, b: int) -> int:
    """`a / b`, rounded up."""
    return -(-a // b)
