"""Plans for the kernels that keep sums in registers: float32 or bfloat16, any dilation.

Each is None for a kernel that is too large for it.
"""

import math

from dwconv_jax.ops.lowerings.gpu.plan import BLOCKS_AT_ONCE, Case, Plan, ceil_div, shape_macros

_THREADS = 128  # of a block
_LARGEST_SLIDING = 13  # the sums of larger kernels would not fit registers
_WIDEST = 63  # a row of taps and of the columns that it sees must fit, too
_TAP_FLOATS = 8192  # of a group of kernel rows of `tile`, in shared memory


def slide(case: Case) -> Plan | None:
    """The convolution by sums that slide down the map: small kernels."""
    if max(case.kernel_size) > _LARGEST_SLIDING:
        return None
    rows, width = _phase_size(case)
    kernel_rows, lanes = case.kernel_size[0], _lanes(case)
    columns = _even(width, 7 if kernel_rows <= 7 else max(2, 50 // kernel_rows))
    plan = _forward(case, "slide", (rows, columns), lanes, {})
    # Few images leave multiprocessors idle: shorter tiles, which repeat work at their borders.
    while math.prod(plan.grid) < BLOCKS_AT_ONCE and rows > 2 * kernel_rows:
        rows = ceil_div(rows, 2)
        plan = _forward(case, "slide", (rows, columns), lanes, {})
    return plan


def tile(case: Case) -> Plan | None:
    """The convolution of a tile of 4 x 8 positions at a time: large kernels."""
    kernel_rows, kernel_columns = case.kernel_size
    if kernel_columns > _WIDEST:
        return None
    lanes = 16
    row = kernel_columns * lanes * _vector(case)
    columns = _even(_phase_size(case)[1], 8)
    together = max(1, min(kernel_rows, _TAP_FLOATS // row))
    return _forward(case, "tile", (4, columns), lanes, {"KR": together})


def _forward(
    case: Case, kernel: str, tile: tuple[int, int], lanes: int, macros: dict[str, int]
) -> Plan:
    batch, launches = (1, case.shape[0]) if case.per_image else (case.shape[0], 1)
    tiles = batch * _tiles_of_image(case, tile)
    together = min(_THREADS // lanes, tiles)
    # Without spilling, 168 registers of a thread are enough in bfloat16.
    resident = 384 if case.bfloat16 else 256
    macros = _macros(case, tile, lanes, together, resident) | macros
    grid = launches * ceil_div(tiles, together), _channel_blocks(case, lanes), 1
    return Plan(kernel, tuple(macros.items()), grid, (lanes, together, 1))


def gradient(case: Case) -> Plan | None:
    """The gradient of the kernel: any kernel."""
    kernel_rows, kernel_columns = case.kernel_size
    if kernel_columns > _WIDEST:
        return None
    height, width = _phase_size(case)
    lanes, rows_held = _lanes(case), max(1, min(kernel_rows, 49 // kernel_columns))
    columns = _even(width, 7 if kernel_columns <= 13 else 14)
    x_rows = 2 if kernel_columns <= 7 else 1
    channel_blocks, chunks = _channel_blocks(case, lanes), ceil_div(kernel_rows, rows_held)
    at_once = max(1, BLOCKS_AT_ONCE // (channel_blocks * chunks))

    tile = height, columns
    if not case.per_image:
        columns_of_tiles = case.shape[0] * _tiles_of_image(case, tile)
        rows = _balanced_rows(height, columns_of_tiles, x_rows, _THREADS // lanes, at_once)
        tile = rows, columns
    tiles = _tiles_of_image(case, tile) * (1 if case.per_image else case.shape[0])
    together = min(_THREADS // lanes, tiles)
    partials = case.shape[0] if case.per_image else min(ceil_div(tiles, together), at_once)
    macros = _macros(case, tile, lanes, together, resident=256) | dict(
        KR=rows_held,
        XR=x_rows,
        SKIP=int(kernel_columns > 7 or height <= 14),
        PARTIALS=partials,
    )
    grid = partials, channel_blocks, chunks
    return Plan("gradient", tuple(macros.items()), grid, (lanes, together, 1), partials=partials)


def _balanced_rows(height: int, columns: int, x_rows: int, together: int, at_once: int) -> int:
    """Rows of a tile of `gradient`, so that all blocks get about as many tiles.

    Args:
      height: of the map.
      columns: the number of tiles if each were as high as the map.
      x_rows: rows that a thread takes at a time.
      together: tiles that a block takes at a time.
      at_once: blocks that share the tiles.
    """

    def busy(rows: int) -> float:  # the share of the time that blocks have work
        bands = ceil_div(height, rows)
        rounds = ceil_div(columns * bands, together)
        taken = ceil_div(rows, x_rows) * x_rows * bands
        return rounds / (ceil_div(rounds, at_once) * at_once) * height / taken

    parts = (parts for parts in (1, 2, 4, 8) if parts == 1 or height >= 4 * parts - 2)
    return max((ceil_div(height, count) for count in parts), key=busy)


def _macros(
    case: Case, tile: tuple[int, int], lanes: int, together: int, resident: int
) -> dict[str, int]:
    """The macros of tiles.cuh; for small kernels, `resident` threads must fit a multiprocessor."""
    warps = ceil_div(lanes * together, 32)
    blocks = resident // (32 * warps) if max(case.kernel_size) <= 7 else 1
    return shape_macros(case) | dict(
        DH=case.dilation[0],
        DW=case.dilation[1],
        BF16=int(case.bfloat16),
        V=_vector(case),
        LANES=lanes,
        TILES=together,
        ROWS=tile[0],
        TW=tile[1],
        BLOCKS=blocks,
    )


def _vector(case: Case) -> int:
    """Channels of a thread."""
    return 1 if case.shape[-1] % 2 else 2


def _lanes(case: Case) -> int:
    """Threads of a block along channels."""
    vectors = case.shape[-1] // _vector(case)
    return 32 if vectors % 32 == 0 or vectors > 256 else 16


def _channel_blocks(case: Case, lanes: int) -> int:
    return ceil_div(case.shape[-1], lanes * _vector(case))


def _phase_size(case: Case) -> tuple[int, int]:
    """Rows and columns of the largest of the maps into which dilation splits a map."""
    (_, height, width, _), (dh, dw) = case.shape, case.dilation
    return ceil_div(height, dh), ceil_div(width, dw)


def _tiles_of_image(case: Case, tile: tuple[int, int]) -> int:
    bands = map(ceil_div, _phase_size(case), tile)
    return math.prod((*case.dilation, *bands))


def _even(size: int, most: int) -> int:
    """The width of the fewest tiles of at most `most`, so that the last is about as full."""
    return ceil_div(size, ceil_div(size, most))
