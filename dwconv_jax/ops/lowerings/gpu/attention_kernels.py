"""Plans for the kernels of neighborhood attention."""

import math
from typing import NamedTuple

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Pair
from dwconv_jax.ops.lowerings.gpu.plan import MOST_SHARED_BYTES, Plan, ceil_div

_POSITIONS = 16  # of a warp: the rows of a product on the matrix unit
_MOST_WARPS = 8  # of a block
_WIDEST = 96  # neighbors in a row: registers must hold their products


class Neighborhood(NamedTuple):
    """The neighborhoods along an axis.

    Attributes:
      kernel_size: keys of a query.
      dilation: positions between them.
      before: how many of them are before the query.
      clamp: whether they stay inside the map, rather than being cut off where it ends.
    """

    kernel_size: int
    dilation: int
    before: int
    clamp: bool


class AttentionCase(NamedTuple):
    """Neighborhood attention over a map.

    Attributes:
      shape: `(B, H, W, heads, D)`.
      rows: the neighborhoods along `H`.
      columns: the neighborhoods along `W`.
      scale: of the products of queries and keys.
      bfloat16: whether the maps are bfloat16 rather than float32.
      bias: whether there is a position bias.
    """

    shape: tuple[int, int, int, int, int]
    rows: Neighborhood
    columns: Neighborhood
    scale: float
    bfloat16: bool = True
    bias: bool = False

    @property
    def bias_shape(self) -> Pair:
        """The biases of a head: the relative positions of query and key along each axis."""
        return 2 * self.rows.kernel_size - 1, 2 * self.columns.kernel_size - 1

    @property
    def bias_bytes(self) -> int:
        """Of the biases of a head, if there are any."""
        return 4 * math.prod(self.bias_shape) if self.bias else 0


class _Tiling(NamedTuple):
    """How blocks cover the map of a dilation group.

    Attributes:
      rows: of the map in the positions of a warp.
      warps: below each other.
      neighbors: rows of the map that a block sees, and columns, a multiple of 16.
      blocks: of an image and head.
    """

    rows: int
    warps: int
    neighbors: tuple[int, int]
    blocks: int


class Plans(NamedTuple):
    """The kernels of an attention.

    Attributes:
      attention: writes the attention, and the log-sum-exp of its logits.
      query_gradient: writes the gradients in queries and, for each block, in biases.
      key_gradient: writes the gradients in keys and values.
    """

    attention: Plan
    query_gradient: Plan
    key_gradient: Plan


def plans(case: AttentionCase) -> Plans:
    """The plans for the attention and its gradients.

    Raises:
      UserError: if the neighborhoods are too wide.
    """
    of_queries, of_keys = (_tiling(case, keys) for keys in (False, True))
    of_warp = 4 * _POSITIONS * of_queries.neighbors[1] + case.bias_bytes if case.bias else 0
    return Plans(
        _plan(case, "neighborhood", of_queries),
        _plan(case, "neighborhood_query_gradient", of_queries, fixed=of_queries.warps * of_warp),
        _plan(case, "neighborhood_key_gradient", of_keys, of_neighbor=2 * 4, resident=2),
    )


def _plan(
    case: AttentionCase,
    kernel: str,
    tiling: _Tiling,
    *,
    fixed: int = 0,
    of_neighbor: int = 0,
    resident: int = 3,
) -> Plan:
    """Plans a kernel, or raises UserError where its registers or shared memory do not suffice.

    Args:
      case: what to compute.
      kernel: the name.
      tiling: of the map.
      fixed: bytes of shared memory, beside the biases.
      of_neighbor: bytes of shared memory for each neighbor, beside its two vectors.
      resident: blocks of a multiprocessor whose registers hardly spill, in bfloat16 and heads of
        32; wider heads allow fewer.
    """
    batch, _, _, heads, depth = case.shape
    rows, span = tiling.neighbors
    parts = 1 if case.bfloat16 else 3
    fixed += case.bias_bytes
    of_row = span * (2 * 2 * parts * (depth + 8) + of_neighbor)
    at_once = (MOST_SHARED_BYTES - fixed) // of_row
    if at_once < 1 or span > _WIDEST:
        raise UserError(
            f"lowering='cuda' has no kernel for {case.columns.kernel_size} columns of keys in "
            f"heads of {depth} channels; use lowering='auto'"
        )
    chunk = ceil_div(rows, ceil_div(rows, at_once))
    shared = fixed + chunk * of_row
    macros = _macros(case) | dict(WARPS=tiling.warps, TR=tiling.rows, SPAN=span, CHUNK=chunk)
    blocks = min(resident, 3 if depth <= 32 else 2) if case.bfloat16 and depth <= 64 else 1
    macros |= dict(SHARED=shared, BLOCKS=blocks)
    grid, block = (batch * tiling.blocks * heads, 1, 1), (32 * tiling.warps, 1, 1)
    return Plan(kernel, tuple(macros.items()), grid, block, shared, partials=tiling.blocks)


def _tiling(case: AttentionCase, keys: bool) -> _Tiling:
    """The tiling of queries, or of keys by the queries that see them."""
    _, height, width, _, _ = case.shape
    length, across = ceil_div(height, case.rows.dilation), ceil_div(width, case.columns.dilation)
    rows = min(length, 2)
    columns = _POSITIONS // rows
    down = ceil_div(length, rows)  # warps
    warps = ceil_div(down, ceil_div(down, _MOST_WARPS))
    seen = _most_neighbors(case.columns, width, columns, keys)
    neighbors = _most_neighbors(case.rows, height, warps * rows, keys), 16 * ceil_div(seen, 16)
    groups = case.rows.dilation * case.columns.dilation
    blocks = groups * ceil_div(down, warps) * ceil_div(across, columns)
    return _Tiling(rows, warps, neighbors, blocks)


def _most_neighbors(neighborhood: Neighborhood, size: int, tile: int, keys: bool) -> int:
    """The most neighbors, first to last, of `tile` positions of a dilation group on an axis."""
    dilation = neighborhood.dilation
    return max(
        _neighbors(neighborhood, first, min(first + tile, length) - 1, length, keys)
        for length in {size // dilation, ceil_div(size, dilation)}
        for first in range(0, length, tile)
    )


def _neighbors(axis: Neighborhood, first: int, last: int, length: int, keys: bool) -> int:
    """As `neighbors` in neighborhood.cuh, which says what positions first to last see."""
    size, _, before, clamp = axis
    if keys:
        begin, end = first + before + 1 - size, last + before + 1
        if clamp and first < size:
            begin = 0
        if clamp and last >= length - size:
            end = length
    else:
        begin, end = first - before, last - before + size
        if clamp:
            begin, end = min(begin, length - size), max(end, size)
    return min(end, length) - max(begin, 0)


def _macros(case: AttentionCase) -> dict[str, int | float]:
    """The macros that every kernel takes."""
    _, height, width, heads, depth = case.shape
    (kh, dh, up, clamp_h), (kw, dw, left, clamp_w) = case.rows, case.columns
    macros: dict[str, int | float] = dict(H=height, W=width, HEADS=heads, D=depth)
    macros |= dict(KH=kh, KW=kw, DH=dh, DW=dw, UP=up, LEFT=left)
    macros |= dict(CLAMP_H=int(clamp_h), CLAMP_W=int(clamp_w))
    return macros | dict(BF16=int(case.bfloat16), BIAS=int(case.bias), SCALE=case.scale)
