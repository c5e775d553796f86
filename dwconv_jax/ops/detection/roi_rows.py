"""RoIAlign for CPUs: reads only the part of a map inside each box.

Each bin is a weighted sum of rows, of which a small matrix product pools the columns. Boxes of
similar width share a loop, whose body has static shapes.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from dwconv_jax.ops.detection.roi_weights import Regions, region_weights
from dwconv_jax.ops.lowerings.split_images import split_images

# Columns read at once; wider boxes read whole rows.
_SPANS = (16, 32, 64)

Size = tuple[int, ...]
Carry = TypeVar("Carry")


def pool(regions: Regions, maps: Sequence[jax.Array], output_size: int) -> jax.Array:
    """Pools each region from the map of its level.

    Args:
      regions: `R` regions for each image.
      maps: `[B, H_l, W_l, C]`, the first the largest.
      output_size: bins `P` per side.

    Returns:
      `[B, R, P, P, C]`.
    """
    count = regions.levels.shape[1]
    channels, dtype = maps[0].shape[-1], maps[0].dtype
    sizes = [x.shape[1:3] for x in maps]

    def pool_images(rows: jax.Array, *regions: jax.Array) -> jax.Array:
        def pool_region(box: _Box, pooled: jax.Array) -> jax.Array:
            def pool_bin(p: jax.Array, pooled: jax.Array) -> jax.Array:
                def add_row(y: jax.Array, total: jax.Array) -> jax.Array:
                    part = lax.dynamic_slice(rows, box.start(y), (1, box.span, channels))
                    return total + box.rows[p, y] * part[0]

                zeros = jnp.zeros((box.span, channels), jnp.float32)
                total = lax.fori_loop(box.top[p], box.bottom[p], add_row, zeros)
                line = (box.cols @ total).astype(dtype)
                return lax.dynamic_update_slice(pooled, line[None, None], (box.number, p, 0, 0))

            return lax.fori_loop(0, output_size, pool_bin, pooled)

        images = len(rows)
        pooled = jnp.zeros((images * count, output_size, output_size, channels), dtype)
        pooled = _for_each(Regions(*regions), sizes, output_size, pool_region, pooled)
        return pooled.reshape(images, count, *pooled.shape[1:])

    arrays = (_rows_of(maps), *regions)
    return split_images(pool_images, *arrays, maps=len(arrays))


def spread(regions: Regions, g: jax.Array, sizes: Sequence[Size]) -> tuple[jax.Array, ...]:
    """The transpose of `pool`: adds the cotangent of each bin to the positions it read.

    Args:
      regions: `R` regions for each image.
      g: `[B, R, P, P, C]`.
      sizes: height and width of each map.

    Returns:
      `[B, H_l, W_l, C]` for each map.
    """
    channels, output_size = g.shape[-1], g.shape[-2]

    def spread_images(g: jax.Array, *regions: jax.Array) -> jax.Array:
        lines = g.astype(jnp.float32).reshape(-1, output_size, output_size, channels)

        def spread_region(box: _Box, rows: jax.Array) -> jax.Array:
            def spread_bin(p: jax.Array, rows: jax.Array) -> jax.Array:
                line = (box.cols.T @ lines[box.number, p])[None]

                def add_row(y: jax.Array, rows: jax.Array) -> jax.Array:
                    part = lax.dynamic_slice(rows, box.start(y), (1, box.span, channels))
                    return lax.dynamic_update_slice(
                        rows, part + box.rows[p, y] * line, box.start(y)
                    )

                return lax.fori_loop(box.top[p], box.bottom[p], add_row, rows)

            return lax.fori_loop(0, output_size, spread_bin, rows)

        rows = jnp.zeros((len(g), _length(sizes), channels), jnp.float32)
        return _for_each(Regions(*regions), sizes, output_size, spread_region, rows)

    arrays = (g, *regions)
    rows = split_images(spread_images, *arrays, maps=len(arrays)).astype(g.dtype)
    ends = [math.prod(size) for size in sizes]
    parts = jnp.split(rows, [sum(ends[: i + 1]) for i in range(len(ends))], axis=1)
    return tuple(
        part.reshape(len(g), *size, channels) for part, size in zip(parts[:-1], sizes, strict=True)
    )


class _Box(NamedTuple):
    """One region inside the rows of all maps.

    Attributes:
      number: among the regions of all images.
      image: whose region it is.
      origin: where its first column in row 0 of its map lies.
      stride: from one row to the next.
      span: the number of columns to read.
      rows: weights `[P, H]`.
      cols: weights `[P, span]`.
      top: first row of each bin, `[P]`.
      bottom: one past the last, `[P]`.
    """

    number: jax.Array
    image: jax.Array
    origin: jax.Array
    stride: jax.Array
    span: int
    rows: jax.Array
    cols: jax.Array
    top: jax.Array
    bottom: jax.Array

    def start(self, y: jax.Array) -> tuple[jax.Array, jax.Array, int]:
        return self.image, self.origin + y * self.stride, 0


def _for_each(
    regions: Regions,
    sizes: Sequence[Size],
    output_size: int,
    visit: Callable[[_Box, Carry], Carry],
    carry: Carry,
) -> Carry:
    """Folds `visit` over all regions, with a loop for each class of widths."""
    count = regions.levels.shape[1]
    levels, boxes, own_sizes = (x.reshape(-1, *x.shape[2:]) for x in regions)
    areas = [math.prod(size) for size in sizes]
    offsets = jnp.cumsum(jnp.asarray(areas)) - jnp.asarray(areas)
    strides = jnp.asarray([width for _, width in sizes])
    left, right = (_cell(boxes[:, i], own_sizes[:, 1]) for i in (0, 2))

    longest = sizes[0][1]
    spans = (*(span for span in _SPANS if span < longest), longest)
    # `jnp.searchsorted` of JAX 0.12 cannot stand inside `linear_map`.
    kinds = (right[:, None] + 2 - left[:, None] > jnp.asarray(spans[:-1], jnp.int32)[None]).sum(1)
    order = jnp.argsort(kinds)
    ends = jnp.cumsum(jnp.bincount(kinds, length=len(spans)))

    def find(n: jax.Array, span: int) -> _Box:
        level, box, own = levels[n], boxes[n], own_sizes[n]
        rows, cols = (
            weights[0, 0]
            for weights in region_weights(box[None, None], own[None, None], sizes[0], output_size)
        )
        first = jnp.clip(strides[level] - span, 0, left[n])
        bins = box[1] + jnp.arange(output_size + 1) * (box[3] - box[1]) / output_size
        return _Box(
            number=n,
            image=n // count,
            origin=offsets[level] + first,
            stride=strides[level],
            span=span,
            rows=rows,
            cols=lax.dynamic_slice(
                jnp.pad(cols, ((0, 0), (0, span))), (0, first), (output_size, span)
            ),
            top=_cell(bins[:-1], own[0]),
            bottom=jnp.minimum(_cell(bins[1:], own[0]) + 2, own[0]),
        )

    for start, end, span in zip((0, *ends[:-1]), ends, spans, strict=True):
        carry = lax.fori_loop(
            start, end, lambda i, carry, span=span: visit(find(order[i], span), carry), carry
        )
    return carry


def _cell(edge: jax.Array, size: jax.Array) -> jax.Array:
    """The first position that a sample at or after an edge of a box can read."""
    return jnp.clip(jnp.nan_to_num(jnp.floor(edge - 0.5)), 0, size - 1).astype(jnp.int32)


def _rows_of(maps: Sequence[jax.Array]) -> jax.Array:
    """All rows one after the other, `[B, L, C]`."""
    room = _length([x.shape[1:3] for x in maps]) - sum(x.shape[1] * x.shape[2] for x in maps)
    flat = [x.reshape(len(x), -1, x.shape[-1]) for x in maps]
    return jnp.pad(jnp.concatenate(flat, axis=1), ((0, 0), (0, room), (0, 0)))


def _length(sizes: Sequence[Size]) -> int:
    """Positions of all maps, and as many as a span can reach past the last row."""
    return sum(math.prod(size) for size in sizes) + sizes[0][1] - sizes[-1][1]
