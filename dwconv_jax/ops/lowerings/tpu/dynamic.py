"""Sliding weights that differ between images, on TPU's vector unit, written in Pallas.

The same kernels serve weights that the positions of an image share (pooled) and weights that they
do not (centre-predicted): only the row of weights that a step takes differs. As images share no
weights, there is no matrix product, but every product is of whole registers (`rows.py`). Maps and
weights stream through fast memory row by row, once each. Sums are float32.

Not timed on hardware yet; benchmarks/README.md has static estimates.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.lowerings.split_images import split_images
from dwconv_jax.ops.lowerings.tpu.loops import clear
from dwconv_jax.ops.lowerings.tpu.rows import RowLayout, read_row, write_row


def mix(x: jax.Array, weights: jax.Array, connectivity: Sliding) -> jax.Array:
    """Mixes maps by weights of each image; devices split the images.

    Args:
      x: float32 or bfloat16 `[B, H, W, C]`.
      weights: `[B, H, W, K, G]`, or `[B, 1, 1, K, C]` if positions share them.
      connectivity: the sliding kernel, `K` taps.

    Returns:
      `[B, H, W, C]`.

    Raises:
      UserError: for another dtype, or if rows are too long for fast memory.
    """

    def call(x: jax.Array, weights: jax.Array) -> jax.Array:
        layout = RowLayout.of(x, weights.shape[1:], connectivity)
        inputs = layout.map_spec(layout.arriving), layout.weight_spec(layout.leaving)
        output = layout.map_spec(layout.leaving)
        return layout.leave(
            layout.call(_mix, inputs, output, layout.map_type, x, weights), x.shape[-1]
        )

    return split_images(call, x, weights, maps=2)


def tap_products(
    x: jax.Array, g: jax.Array, weights_shape: tuple[int, ...], connectivity: Sliding
) -> jax.Array:
    """Computes the gradient of `mix` with respect to its weights.

    Args:
      x: float32 or bfloat16 `[B, H, W, C]`.
      g: the cotangent of the result, `[B, H, W, C]` of the same dtype.
      weights_shape: shape of the weights without the batch: `(H, W, K, G)` or `(1, 1, K, C)`.
      connectivity: the sliding kernel, `K` taps.

    Returns:
      `[B, *weights_shape]`; float32 if positions share weights, which it then sums over.

    Raises:
      UserError: as for `mix`.
    """

    def call(x: jax.Array, g: jax.Array) -> jax.Array:
        layout = RowLayout.of(x, weights_shape, connectivity)
        inputs = layout.map_spec(layout.arriving), layout.map_spec(layout.leaving)
        output = layout.weight_spec(layout.leaving)
        return layout.leave(
            layout.call(_tap_products, inputs, output, layout.weight_type, x, g), weights_shape[-1]
        )

    return split_images(call, x, g, maps=2)


def seen_by(g: jax.Array, weights: jax.Array, connectivity: Sliding) -> jax.Array:
    """Computes the gradient of `mix` with respect to the map, for weights of each position.

    Args:
      g: the cotangent of the result, float32 or bfloat16 `[B, H, W, C]`.
      weights: `[B, H, W, K, G]`. For shared weights, `mix` by the flipped ones does the same.
      connectivity: the sliding kernel, `K` taps.

    Returns:
      `[B, H, W, C]`.

    Raises:
      UserError: as for `mix`.
    """

    def call(g: jax.Array, weights: jax.Array) -> jax.Array:
        layout = RowLayout.of(g, weights.shape[1:], connectivity)
        inputs = layout.map_spec(layout.arriving), layout.weight_spec(layout.arriving)
        output = layout.map_spec(layout.leaving)
        return layout.leave(
            layout.call(_seen_by, inputs, output, layout.map_type, g, weights), g.shape[-1]
        )

    return split_images(call, g, weights, maps=2)


def _mix(layout: RowLayout, x_ref, weights_ref, y_ref, ring_ref, row_ref, turn_ref) -> None:
    step = pl.program_id(2)
    _take_row(layout, step, x_ref, ring_ref, turn_ref)

    def mix_strip(first: jax.Array, first_tile: jax.Array, kernel_row: jax.Array) -> None:
        seen_ref = ring_ref.at[layout.slot(step + 1, kernel_row)]
        for part in layout.parts:
            tile = part.sublanes(first_tile)
            places = layout.places(part.columns(first))
            columns = part.columns(first + layout.columns_ahead)
            total = row_ref[columns, :, tile]
            for tap, right in layout.taps(kernel_row):
                weights = weights_ref[places, tap, tile].astype(jnp.float32)
                total += weights[:, None] * seen_ref[part.columns(first + right), :, tile]
            row_ref[columns, :, tile] = total

    @pl.when(step >= layout.rows_ahead)
    def _mix_row() -> None:
        clear(row_ref, axes=1)
        layout.for_each_strip(mix_strip)
        write_row(layout, row_ref, y_ref, turn_ref)


def _tap_products(
    layout: RowLayout, x_ref, g_ref, products_ref, ring_ref, row_ref, turn_ref
) -> None:
    step = pl.program_id(2)
    _take_row(layout, step, x_ref, ring_ref, turn_ref)

    def multiply_strip(first: jax.Array, first_tile: jax.Array, kernel_row: jax.Array) -> None:
        seen_ref = ring_ref.at[layout.slot(step + 1, kernel_row)]
        for part in layout.parts:
            tile = part.sublanes(first_tile)
            places = layout.places(part.columns(first))
            g = row_ref[part.columns(first + layout.columns_ahead), :, tile]
            for tap, right in layout.taps(kernel_row):
                products = (g * seen_ref[part.columns(first + right), :, tile]).sum(1)
                if not layout.per_position:
                    products = products_ref[places, tap, tile] + products.sum(0, keepdims=True)
                products_ref[places, tap, tile] = products.astype(products_ref.dtype)

    if not layout.per_position:
        pl.when(step == 0)(lambda: clear(products_ref, axes=2))

    @pl.when(step >= layout.rows_ahead)
    def _multiply_row() -> None:
        read_row(layout, g_ref, row_ref, turn_ref)
        layout.for_each_strip(multiply_strip)


def _seen_by(layout: RowLayout, g_ref, weights_ref, x_ref, ring_ref, row_ref, turn_ref) -> None:
    """A row adds to all rows that it sees; the ring holds their sums until they are complete."""
    step, ahead = pl.program_id(2), layout.columns_ahead

    @pl.when(step == 0)
    def _clear() -> None:
        clear(ring_ref, axes=2)
        clear(row_ref, axes=1)

    def give_strip(first: jax.Array, first_tile: jax.Array, kernel_row: jax.Array) -> None:
        sums_ref = ring_ref.at[layout.slot(step, kernel_row)]
        for part in layout.parts:
            column, tile = first + part.column, part.sublanes(first_tile)
            total = sums_ref[column + ahead, :, tile]
            for tap, right in layout.taps(kernel_row):
                giver = column + ahead - right
                # Beyond the map the cotangent is zero, so any weight will do.
                place = jnp.clip(giver, 0, layout.shape[2] - 1)
                weights = weights_ref[place, tap, tile].astype(jnp.float32)
                total += weights[None] * row_ref[giver + ahead, :, tile]
            sums_ref[column + ahead, :, tile] = total

    @pl.when(step < layout.shape[1])
    def _give_row() -> None:
        read_row(layout, g_ref, row_ref, turn_ref)
        layout.for_each_strip(give_strip)

    complete_ref = ring_ref.at[layout.slot(step, 0)]
    write_row(layout, complete_ref, x_ref, turn_ref)
    clear(complete_ref, axes=1)


def _take_row(layout: RowLayout, step: jax.Array, x_ref, ring_ref, turn_ref) -> None:
    """Puts the arriving row into the ring; zeros after the last row."""

    @pl.when(step == 0)
    def _clear() -> None:
        clear(ring_ref, axes=2)

    slot_ref = ring_ref.at[layout.slot(step, 0)]

    @pl.when(step < layout.shape[1])
    def _read() -> None:
        read_row(layout, x_ref, slot_ref, turn_ref)

    @pl.when(step >= layout.shape[1])
    def _pad() -> None:
        clear(slot_ref, axes=1)
