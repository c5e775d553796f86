"""Plans a depth-wise convolution as products with Toeplitz matrices.

A map is cut into windows of `rows * columns` positions, small enough for a matrix unit. Inside a
window, in raster order, a channel's convolution is a square matrix whose entry `[i, j]` is the tap
at the offset from `i` to `j`: the same matrix for every window. A window yields the outputs whose
neighborhood it holds, apart from positions outside the map.

The flat offsets of the taps differ modulo 128, the lanes of a register. Up to a mask of zeros and
ones, the matrix is therefore one vector of taps, rolled by one lane more in each row. If offsets
coincide, the rows of the kernel are spread over several such vectors.
"""

import dataclasses
import functools
import itertools

import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Pair, Sliding

LANES = 128
_ALIGNED_ROWS = 16  # of a bfloat16 register
_MOST_POSITIONS = 512  # in a window, unless the kernel needs more
_PRODUCT_OVERHEAD = 16  # cycles


@dataclasses.dataclass(frozen=True)
class Span:
    """A window along one axis: its start, and the outputs `first ... stop - 1` that it yields."""

    start: int
    first: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Product:
    """A product: matrix rows `[first, first + rows)` times the window of a band in a tile."""

    tile: int
    band: Span
    first: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the convolution of a map is cut into products.

    Attributes:
      map_size: height and width of the map.
      connectivity: the sliding kernel.
      window: rows and columns of a window.
      bands: windows down the map.
      tiles: windows across the map. A single tile with a single band has the map's own flat order;
        otherwise the number of columns is even, so that positions form pairs.
    """

    map_size: Pair
    connectivity: Sliding
    window: Pair
    bands: tuple[Span, ...]
    tiles: tuple[Span, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the one window is the map."""
        return len(self.bands) == len(self.tiles) == 1 and self.window == self.map_size

    @property
    def lines(self) -> int:
        """Lines of positions in a tile; the whole map is one line."""
        return 1 if self.is_whole else self.map_size[0]

    @property
    def line_length(self) -> int:
        """Positions in a line, an even number."""
        return _even(self.window[0] * self.window[1]) if self.is_whole else self.window[1]

    @property
    def positions(self) -> int:
        """Positions in a window, over which a product sums."""
        return _even(self.window[0] * self.window[1])

    def columns(self, tile: Span, owned: bool) -> list[int | None]:
        """For each position in a line of a tile, its place in the map's line; None for padding.

        With `owned`, also None for positions whose outputs another tile yields.
        """
        width = self.map_size[0] * self.map_size[1] if self.is_whole else self.map_size[1]
        if self.is_whole:
            legal = range(width)
        else:
            legal = range(tile.first, tile.stop) if owned else range(width)
        places = range(tile.start, tile.start + self.line_length)
        return [place if place in legal else None for place in places]

    @functools.cached_property
    def pieces(self) -> dict[tuple[int, int], int]:
        """The place where rows `first ... stop - 1`, needed by some product, are stored."""
        wanted = {self._rows(band) for band in self.bands}
        stored: dict[tuple[int, int], int] = {}
        for first, stop in sorted(wanted, key=lambda rows: rows[0] - rows[1]):
            inside = (
                place + first - outer[0]
                for outer, place in stored.items()
                if outer[0] <= first and stop <= outer[1]
                if (first - outer[0]) % _ALIGNED_ROWS == 0
            )
            end = max((p + _aligned(s - f) for (f, s), p in stored.items()), default=0)
            stored[first, stop] = next(inside, end)
        return stored

    @functools.cached_property
    def built(self) -> tuple[tuple[int, int, int], ...]:
        """The runs of rows to build: the first row, the (aligned) number of rows, their place."""
        ends, built = 0, []
        for (first, stop), place in self.pieces.items():
            if place >= ends:
                built.append((first, _aligned(stop - first), place))
                ends = place + _aligned(stop - first)
        return tuple(built)

    @property
    def matrix_shape(self) -> Pair:
        """Stored rows and columns, both in whole registers."""
        return max(place + rows for _, rows, place in self.built), _lanes(self.positions)

    @property
    def products(self) -> tuple[Product, ...]:
        """All products, the largest first."""
        products = []
        for tile, band in itertools.product(range(len(self.tiles)), self.bands):
            first, stop = self._rows(band)
            place = self.pieces[first, stop]
            products.append(Product(tile, band, place, _even(stop - first)))
        return tuple(sorted(products, key=lambda product: -product.rows))

    @functools.cached_property
    def kernel_rows(self) -> tuple[tuple[int, ...], ...]:
        """The kernel rows, in sets within which flat offsets differ modulo 128."""
        sets: list[tuple[list[int], set[int]]] = []
        for row in range(self.connectivity.kernel_size[0]):
            lanes = [lane for r, _, lane in self._taps if r == row]
            for rows, taken in sets:
                if not taken & set(lanes):
                    rows.append(row)
                    taken.update(lanes)
                    break
            else:
                sets.append(([row], set(lanes)))
        return tuple(tuple(rows) for rows, _ in sets)

    def placement(self) -> np.ndarray:
        """The lane and vector of each tap: 0/1 `[sets, 128, taps]`."""
        width = self.connectivity.kernel_size[1]
        places = np.zeros((len(self.kernel_rows), LANES, self.connectivity.block_shape(1, 1)[2]))
        for row, column, lane in self._taps:
            in_set = next(s for s, rows in enumerate(self.kernel_rows) if row in rows)
            places[in_set, lane, row * width + column] = 1
        return places.astype(np.float32)

    def mask(self) -> np.ndarray:
        """The nonzero entries of the stored matrix, per vector: 0/1 `[sets, *matrix_shape]`."""
        (height, width), (dh, dw) = self.window, self.connectivity.dilation
        ph, pw = self.connectivity.padding
        place = np.arange(height * width)
        rows = place[None, :] // width - place[:, None] // width + ph
        columns = place[None, :] % width - place[:, None] % width + pw
        kernel_width = self.connectivity.kernel_size[1]
        in_row = (columns % dw == 0) & (columns >= 0) & (columns <= dw * (kernel_width - 1))
        mask = np.zeros((len(self.kernel_rows), *self.matrix_shape), np.float32)
        for in_set, kernel_rows in enumerate(self.kernel_rows):
            whole = in_row & np.isin(rows, [dh * row for row in kernel_rows])
            for (first, stop), to in self.pieces.items():
                mask[in_set, to : to + stop - first, : height * width] = whole[first:stop]
        return mask

    @property
    def _taps(self) -> list[tuple[int, int, int]]:
        """The row, column and flat offset modulo 128 of each tap."""
        (kh, kw), (dh, dw) = self.connectivity.kernel_size, self.connectivity.dilation
        ph, pw = self.connectivity.padding
        taps = itertools.product(range(kh), range(kw))
        pitch = self.window[1]
        return [(a, b, ((dh * a - ph) * pitch + dw * b - pw) % LANES) for a, b in taps]

    def _rows(self, band: Span) -> tuple[int, int]:
        """The rows of the matrix that yield a band's outputs."""
        pitch = self.window[1]
        return (band.first - band.start) * pitch, (band.stop - band.start) * pitch


@functools.cache
def make_plan(map_size: Pair, connectivity: Sliding) -> Plan:
    """Finds the plan with the least estimated work.

    Raises:
      UserError: if a row of the kernel does not fit into the lanes.
    """
    kernel_width, dilation = connectivity.kernel_size[1], connectivity.dilation[1]
    if dilation * (kernel_width - 1) >= LANES:
        raise UserError(
            f"lowering='pallas' takes kernels up to {LANES} positions wide, got kernel_size="
            f"{connectivity.kernel_size} with dilation={connectivity.dilation}; use lowering='auto'"
        )
    plans = [_cut(map_size, connectivity, window) for window in _windows(map_size, connectivity)]
    return min(plans, key=_work)


def _windows(map_size: Pair, connectivity: Sliding) -> list[Pair]:
    """Windows that yield at least one output away from the map's borders; at least one window."""
    heights, widths = (
        range(min(2 * pad + 1, size), size + 1)
        for size, pad in zip(map_size, connectivity.padding, strict=True)
    )
    even = {_even(width) for width in widths}
    legal = [(h, w) for h in heights for w in sorted(even)]
    fit = [(h, w) for h, w in legal if h * w <= _MOST_POSITIONS] or [legal[0]]
    return [*fit, map_size] if map_size[0] * map_size[1] <= _MOST_POSITIONS else fit


def _cut(map_size: Pair, connectivity: Sliding, window: Pair) -> Plan:
    bands, tiles = (
        _spans(*sizes) for sizes in zip(map_size, window, connectivity.padding, strict=True)
    )
    return Plan(map_size, connectivity, window, bands, tiles)


def _spans(size: int, window: int, padding: int) -> tuple[Span, ...]:
    """The fewest windows along one axis that yield all outputs."""
    if window >= size:
        return (Span(0, 0, size),)
    spans = [Span(0, 0, window - padding)]
    while spans[-1].stop < size:
        first = spans[-1].stop
        start = min(first - padding, size - window)
        at_end = start == size - window
        spans.append(Span(start, first, size if at_end else start + window - padding))
    return tuple(spans)


def _work(plan: Plan) -> float:
    """Estimates a channel's cycles: streaming rows, loading windows, building the matrix."""
    chunks = plan.matrix_shape[1] // LANES
    streamed = sum(_aligned(product.rows) for product in plan.products) * chunks / 4
    loaded = len(plan.products) * (plan.positions / 8 + _PRODUCT_OVERHEAD)
    built = plan.matrix_shape[0] * chunks * len(plan.kernel_rows) / 4
    return streamed + loaded + built


def _even(size: int) -> int:
    return size + size % 2


def _aligned(rows: int) -> int:
    return -(-rows // _ALIGNED_ROWS) * _ALIGNED_ROWS


def _lanes(size: int) -> int:
    return -(-size // LANES) * LANES
