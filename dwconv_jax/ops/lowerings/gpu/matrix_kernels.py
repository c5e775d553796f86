"""Plans for the kernels on the matrix unit: bfloat16, channels by 8, no dilation.

Each is None for a case that the kernel does not cover.
"""

import dataclasses
import itertools
from collections.abc import Callable

from dwconv_jax.ops.lowerings.gpu.plan import (
    BLOCKS_AT_ONCE,
    MOST_SHARED_BYTES,
    Case,
    Plan,
    ceil_div,
    shape_macros,
)

_MOST_PRODUCTS = 7  # beside each other: a warp holds the sums of two channels
_GRADIENT_PRODUCTS = 14  # that a warp of the gradient holds for a channel


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """How a block covers the map.

    Attributes:
      channels: channels of a block, 16 or 8; two for each warp.
      rows: rows of an image in a product of 16: 16, or 8 of each of two images.
      products: products beside each other, 8 columns each.
      steps: products for the columns that 8 columns of output see.
    """

    channels: int
    rows: int
    products: int
    steps: int

    @property
    def images(self) -> int:
        return 16 // self.rows

    @property
    def columns(self) -> int:
        return 8 * self.products

    @property
    def stride(self) -> int:
        """Elements of a row in shared memory: an odd number of 16 bytes avoids bank conflicts."""
        seen = self.columns + 16 * self.steps - 8
        return seen + (0 if seen // 8 % 2 else 8)

    def tiles_of_image(self, case: Case) -> int:
        return ceil_div(case.shape[1], self.rows) * ceil_div(case.shape[2], self.columns)

    def plan(
        self, kernel: str, case: Case, blocks: tuple[int, int], shared: int, **macros: int
    ) -> Plan:
        """The plan with `blocks` along x and z."""
        macros = shape_macros(case) | macros
        macros |= dict(CB=self.channels, MR=self.rows, NT=self.products, SHARED=shared)
        macros["BLOCKS"] = 32 // self.channels  # two of 256 threads
        grid = blocks[0], ceil_div(case.shape[-1], self.channels), blocks[1]
        return Plan(kernel, tuple(macros.items()), grid, (16 * self.channels, 1, 1), shared)


def toeplitz(case: Case) -> Plan | None:
    """The convolution as products with banded matrices of taps."""
    kh, _ = case.kernel_size

    def shared_bytes(tiling: _Tiling) -> int:
        pitch = tiling.columns + (0 if tiling.columns % 32 else 8)
        map_in = 2 * tiling.images * (tiling.rows + kh - 1) * tiling.stride
        map_out = 2 * 16 * pitch
        return tiling.channels * (max(map_in, map_out) + 2 * kh * (16 + 16 * tiling.steps))

    tiling = _widest(case, shared_bytes)
    if tiling is None:
        return None
    blocks = tiling.tiles_of_image(case) * ceil_div(case.shape[0], tiling.images)
    return tiling.plan("toeplitz", case, (blocks, 1), shared_bytes(tiling))


def toeplitz_gradient(case: Case) -> Plan | None:
    """The gradient of the kernel as diagonals of products of the maps."""
    batch, kh = case.shape[0], case.kernel_size[0]
    kernel_rows = max(1, min(kh, _GRADIENT_PRODUCTS // _steps(case)))

    def shared_bytes(tiling: _Tiling) -> int:
        pitch = tiling.columns + (0 if tiling.products % 2 else 8)
        x = 2 * tiling.images * (tiling.rows + kernel_rows - 1) * tiling.stride
        products = 4 * 16 * tiling.steps * 8
        return tiling.channels * max(x + 2 * 16 * pitch, products)

    tiling = _widest(case, shared_bytes)
    if tiling is None:
        return None
    chunks, partials = ceil_div(kh, kernel_rows), batch
    if not case.per_image:
        tiles = tiling.tiles_of_image(case) * ceil_div(batch, tiling.images)
        others = ceil_div(case.shape[-1], tiling.channels) * chunks
        partials = min(tiles, max(1, BLOCKS_AT_ONCE // others))
    plan = tiling.plan(
        "toeplitz_gradient",
        case,
        (partials, chunks),
        shared_bytes(tiling),
        KR=kernel_rows,
        PARTIALS=partials,
    )
    return dataclasses.replace(plan, partials=partials)


def _widest(case: Case, shared_bytes: Callable[[_Tiling], int]) -> _Tiling | None:
    """The widest tiling that fits shared memory, None for none or a case that is not covered."""
    _, height, width, channels = case.shape
    if not case.bfloat16 or channels % 8 or case.dilation != (1, 1):
        return None
    rows = 8 if height <= 8 and not case.per_image else 16
    products = ceil_div(width, 8)
    widths = (
        ceil_div(products, tiles)
        for tiles in range(ceil_div(products, _MOST_PRODUCTS), products + 1)
    )
    tilings = (
        _Tiling(channels, rows, width, _steps(case))
        for channels, width in itertools.product((16, 8), widths)
    )
    return next((tiling for tiling in tilings if shared_bytes(tiling) <= MOST_SHARED_BYTES), None)


def _steps(case: Case) -> int:
    return ceil_div(8 + case.kernel_size[1] - 1, 16)
