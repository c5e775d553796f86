"""How maps and weights stream through a TPU kernel, row by row.

A block is a row of the map, with 16 or more images or groups in the *sublanes* and 128 of the
other in the *lanes*: the weights of images fill whole registers, and no data moves inside one. In
scratch memory a row is float32 `[padded columns, members, sublanes, 128]`, where members are the
channels of a group; a *ring* holds as many rows as the kernel spans.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.lowerings.tpu.loops import for_each, largest_divisor
from dwconv_jax.ops.lowerings.tpu.maps import check_dtype, check_memory
from dwconv_jax.ops.lowerings.tpu.platform import fast_memory
from dwconv_jax.ops.lowerings.tpu.toeplitz import LANES

TILE = 16  # sublanes of a bfloat16 register
_MOST_TILES, _RING_BYTES = 8, 2**24  # limits of a block, which has at least one tile
# Sums, of a tile each, in one step of a loop, so that the latency of one hides behind the work of
# others; and sums that share what they load, as many as registers hold.
_MOST_IN_STRIP, _MOST_IN_PART = 56, 7
_MOST_COLUMNS = 8  # copied in one step

Row = Callable[[jax.Array], jax.Array]


class Part(NamedTuple):
    """A part of a strip: `width` columns from `column` on, of one tile of sublanes."""

    column: int
    width: int
    tile: int

    def columns(self, first: jax.Array) -> pl.Slice:
        """Its columns in the row, if the strip starts at `first`."""
        return pl.Slice(first + self.column, self.width)

    def sublanes(self, first_tile: jax.Array) -> pl.Slice:
        """Its sublanes in the block, if the strip starts at `first_tile`."""
        return pl.Slice(pl.multiple_of((first_tile + self.tile) * TILE, TILE), TILE)


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """Blocks of maps `[B, H, W, C]` and of weights `[B, H, W, K, G]` or `[B, 1, 1, K, C]`.

    The kernel sees a map as `[H, W, C, B]`, or as `[H, W, B, C]` if channels fill the lanes and
    positions share weights, as XLA lays out such maps. Weights have the same layout. The last axis
    of the grid counts steps: at each, a row of the map arrives, and the row leaves for which all
    rows that it sees have arrived.
    """

    shape: tuple[int, ...]
    dtype: jnp.dtype
    groups: int
    connectivity: Sliding
    per_position: bool

    @classmethod
    def of(cls, x: jax.Array, weights_shape: tuple[int, ...], connectivity: Sliding) -> "RowLayout":
        """The layout for a map and for weights of that shape, without the batch.

        Raises:
          UserError: if the kernels do not take the dtype.
        """
        check_dtype(x.dtype)
        per_position = weights_shape[:2] == x.shape[1:3]
        return cls(x.shape, x.dtype, weights_shape[-1], connectivity, per_position)

    @property
    def channels_in_lanes(self) -> bool:
        """Whether channels are in the lanes and images in the sublanes, or the reverse."""
        return not self.per_position and self.shape[-1] % LANES == 0

    @property
    def members(self) -> int:
        """Channels of a group."""
        return self.shape[-1] // self.groups

    @property
    def rows_ahead(self) -> int:
        """Steps from a row's arrival until it leaves."""
        return self.connectivity.padding[0]

    @property
    def columns_ahead(self) -> int:
        """Columns of padding on each side of a row in scratch memory."""
        return self.connectivity.padding[1]

    @property
    def slots(self) -> int:
        """Rows in the ring."""
        return 2 * self.rows_ahead + 1

    def slot(self, row: jax.Array, kernel_row: jax.Array | int) -> jax.Array:
        """The slot of the row that `kernel_row` sees, if the first kernel row sees `row`."""
        return (row + kernel_row * self.connectivity.dilation[0]) % self.slots

    def taps(self, kernel_row: jax.Array) -> list[tuple[jax.Array, int]]:
        """The taps of a kernel row, each with its column offset in a padded row."""
        width, dilation = self.connectivity.kernel_size[1], self.connectivity.dilation[1]
        return [(kernel_row * width + i, i * dilation) for i in range(width)]

    @property
    def parts(self) -> list[Part]:
        """The parts of a strip; the columns of a part share their weights."""
        columns, tiles = self._strip
        width = 1 if self.per_position else min(_MOST_IN_PART, columns)
        starts = itertools.product(range(tiles), range(0, columns, width))
        return [Part(column, min(width, columns - column), tile) for tile, column in starts]

    def for_each_strip(self, work: Callable[[jax.Array, jax.Array, jax.Array], None]) -> None:
        """Calls `work(first column, first tile, kernel row)` for all strips of a row."""
        columns, tiles = self._strip
        counts = self.shape[2] // columns, self._tiles // tiles, self.connectivity.kernel_size[0]
        for_each(counts, lambda across, down, row: work(across * columns, down * tiles, row))

    def places(self, columns: pl.Slice) -> pl.Slice:
        """The place of some columns' weights in a row of weights."""
        return columns if self.per_position else pl.Slice(0, 1)

    def enter(self, a: jax.Array) -> jax.Array:
        """Lays out a map or weights, batch first, for the kernel; pads to whole blocks."""
        units = (LANES, self._tiles * TILE * (a.shape[-1] // self.groups))
        batch, last = units[::-1] if self.channels_in_lanes else units
        missing = ((0, -a.shape[0] % batch), *((0, 0),) * (a.ndim - 2), (0, -a.shape[-1] % last))
        return jnp.moveaxis(jnp.pad(a, missing), 0, -2 if self.channels_in_lanes else -1)

    def leave(self, a: jax.Array, size: int) -> jax.Array:
        """Inverts `enter`, for a last axis of `size`."""
        a = jnp.moveaxis(a, -2 if self.channels_in_lanes else -1, 0)
        return a[: self.shape[0], ..., :size]

    @property
    def map_type(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of a map in the kernel's layout."""
        return jax.eval_shape(self.enter, jax.ShapeDtypeStruct(self.shape, self.dtype))

    @property
    def weight_type(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of a kernel's weight result: sums over positions are float32."""
        shape = (self.shape[0], *self._weight_map, self._taps, self.groups)
        dtype = self.dtype if self.per_position else jnp.float32
        return jax.eval_shape(self.enter, jax.ShapeDtypeStruct(shape, dtype))

    def map_spec(self, row: Row) -> pl.BlockSpec:
        """Rows of a map; `row` maps a step to the row it takes."""
        block = (None, self.shape[2], self.members * self._tiles * TILE, LANES)
        return pl.BlockSpec(block, lambda lanes, sublanes, step: (row(step), 0, sublanes, lanes))

    def weight_spec(self, row: Row) -> pl.BlockSpec:
        """Rows of weights, or the only row if positions share weights."""
        block = (None, self._weight_map[1], self._taps, self._tiles * TILE, LANES)

        def index(lanes: jax.Array, sublanes: jax.Array, step: jax.Array) -> tuple[Any, ...]:
            return row(step) if self.per_position else 0, 0, 0, sublanes, lanes

        return pl.BlockSpec(block, index)

    def arriving(self, step: jax.Array) -> jax.Array:
        """The row that arrives at a step."""
        return jnp.minimum(step, self.shape[1] - 1)

    def leaving(self, step: jax.Array) -> jax.Array:
        """The row that leaves at a step."""
        return jnp.maximum(step - self.rows_ahead, 0)

    def call(
        self,
        kernel: Callable[..., None],
        inputs: tuple[pl.BlockSpec, ...],
        output: pl.BlockSpec,
        output_type: jax.ShapeDtypeStruct,
        *operands: jax.Array,
    ) -> jax.Array:
        """Runs `kernel(layout, *inputs, output, ring, row, turn)` on all blocks.

        Raises:
          UserError: if fast memory cannot hold a block.
        """
        row = (self.shape[2] + 2 * self.columns_ahead, self.members, self._tiles * TILE, LANES)
        turn = (self.shape[2], self.members * self._tiles * TILE, LANES)
        scratch = ((self.slots, *row), row, turn)
        check_memory(
            4 * sum(map(math.prod, scratch)) + 2 * sum(map(self._block_bytes, (*inputs, output))),
            "the rows that a kernel spans",
            self.shape,
            self.dtype,
        )
        images, groups = self.shape[0], self.groups
        sublanes, lanes = (images, groups) if self.channels_in_lanes else (groups, images)
        grid = pl.cdiv(lanes, LANES), pl.cdiv(sublanes, self._tiles * TILE)
        return pl.pallas_call(
            lambda *refs: kernel(self, *refs),
            grid=(*grid, self.shape[1] + self.rows_ahead),
            in_specs=inputs,
            out_specs=output,
            out_shape=output_type,
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "parallel", "arbitrary"),
                vmem_limit_bytes=fast_memory(),
            ),
            name=kernel.__name__.strip("_"),
        )(*map(self.enter, operands))

    def _block_bytes(self, spec: pl.BlockSpec) -> int:
        sizes = (size for size in spec.block_shape or () if isinstance(size, int))
        return math.prod(sizes) * self.dtype.itemsize

    @property
    def _tiles(self) -> int:
        """Tiles of sublanes in a block: the fewest blocks that fit, of equal size."""
        if self.per_position:
            return 1
        width = self.shape[2] + 2 * self.columns_ahead
        most = _RING_BYTES // (4 * self.slots * width * TILE * LANES)
        needed = pl.cdiv(self.shape[0] if self.channels_in_lanes else self.groups, TILE)
        return pl.cdiv(needed, pl.cdiv(needed, max(1, min(most, _MOST_TILES))))

    @property
    def _strip(self) -> tuple[int, int]:
        """Columns and tiles of a strip; strips divide the row evenly."""
        fit = max(1, _MOST_IN_STRIP // self.members)
        columns = largest_divisor(self.shape[2], fit)
        return columns, largest_divisor(self._tiles, fit // columns)

    @property
    def _weight_map(self) -> tuple[int, int]:
        return (self.shape[1], self.shape[2]) if self.per_position else (1, 1)

    @property
    def _taps(self) -> int:
        return math.prod(self.connectivity.kernel_size)


def read_row(layout: RowLayout, map_ref, row_ref, turn_ref) -> None:
    """Copies a row of a map into a padded row, and separates the members of groups."""

    def read_column(column: jax.Array) -> None:
        values = map_ref[column].astype(jnp.float32)
        if layout.members == 1:
            row_ref[column + layout.columns_ahead, 0] = values
            return
        turn_ref[column] = values
        for member in range(layout.members):
            groups = pl.ds(member, row_ref.shape[2], stride=layout.members)
            row_ref[column + layout.columns_ahead, member] = turn_ref[column, groups]

    _for_each_column(layout, read_column)


def write_row(layout: RowLayout, row_ref, map_ref, turn_ref) -> None:
    """Inverts `read_row`."""

    def write_column(column: jax.Array) -> None:
        if layout.members == 1:
            map_ref[column] = row_ref[column + layout.columns_ahead, 0].astype(map_ref.dtype)
            return
        for member in range(layout.members):
            groups = pl.ds(member, row_ref.shape[2], stride=layout.members)
            turn_ref[column, groups] = row_ref[column + layout.columns_ahead, member]
        map_ref[column] = turn_ref[column].astype(map_ref.dtype)

    _for_each_column(layout, write_column)


def _for_each_column(layout: RowLayout, work: Callable[[jax.Array], None]) -> None:
    columns = layout.shape[2]
    unroll = largest_divisor(columns, _MOST_COLUMNS)
    lax.fori_loop(0, columns, lambda column, _: work(column), None, unroll=unroll)
