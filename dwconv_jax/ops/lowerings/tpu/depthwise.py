"""Static depth-wise convolution on TPU's matrix unit, written in Pallas.

For each channel, `y[i, b] = sum over j of T[i, j] * x[j, b]`. `T` is the channel's Toeplitz matrix
(`toeplitz.py`), built in fast memory from one vector of taps, rolled by one lane more in each row;
`b` counts 128 images, which fill the lanes. The kernel reads and writes maps in the layout of the
matrix products around it, with channels in the lanes if they fill them and images otherwise, and
rearranges them into rows of positions itself. Sums are float32; 16-bit positions move in pairs.

Not timed on hardware yet; benchmarks/README.md has static estimates.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from dwconv_jax.ops.connectivity import Pair, Sliding
from dwconv_jax.ops.lowerings.split_images import split_images
from dwconv_jax.ops.lowerings.tpu.maps import MapLayout, read_rows, write_rows
from dwconv_jax.ops.lowerings.tpu.toeplitz import LANES, Plan, Product, make_plan

_SUBLANES = 8
# A step of a loop takes channels of about this many matrix rows together, so that the latency of
# one hides behind the work of others.
_ROWS_TOGETHER, _MOST_TOGETHER = 2048, 16


def convolve(
    x: jax.Array, kernel: jax.Array, dilation: Pair, affine: jax.Array | None = None
) -> jax.Array:
    """Depth-wise convolution with stride 1 and zero padding; devices split the images.

    Args:
      x: float32 or bfloat16 `[B, H, W, C]`.
      kernel: `[kh, kw, C]`.
      dilation: rows and columns between taps.
      affine: `[C, 2]`, scale and bias of each channel. If given, the result is
        `relu(scale * y + bias)`.

    Returns:
      `[B, H, W, C]`.

    Raises:
      UserError: if the kernel is too wide, or the map too large for fast memory.
    """
    plan = _plan(x, (kernel.shape[0], kernel.shape[1]), dilation)
    taps = _tap_vectors(kernel.astype(x.dtype), plan)
    mask = jnp.asarray(plan.mask(), x.dtype)
    parameters = [taps, mask]
    if affine is not None:
        lanes = ((0, 0), (0, 0), (0, LANES - 2))
        parameters.append(jnp.pad(affine.astype(jnp.float32)[:, None], lanes))
    return split_images(functools.partial(_call_mix, plan), x, *parameters, maps=1)


def kernel_gradient(x: jax.Array, g: jax.Array, kernel_size: Pair, dilation: Pair) -> jax.Array:
    """Computes the gradient of `convolve` with respect to its kernel, summed over images.

    Args:
      x: float32 or bfloat16 `[B, H, W, C]`.
      g: the cotangent of the result, `[B, H, W, C]` of the same dtype.
      kernel_size: rows and columns of the kernel.
      dilation: rows and columns between taps.

    Returns:
      float32 `[kh, kw, C]`.

    Raises:
      UserError: as for `convolve`.
    """
    plan = _plan(x, kernel_size, dilation)
    mask = jnp.asarray(plan.mask(), x.dtype)
    sums = split_images(functools.partial(_call_sum, plan), x, g, mask, maps=2, sums=True)
    return _taps_of_sums(sums.reshape(len(sums), -1, _SUBLANES, LANES), plan)


def _call_mix(plan: Plan, x: jax.Array, *parameters: jax.Array) -> jax.Array:
    """Mixes `[B, H, W, C]` by vectors of taps, a mask and optionally scale and bias."""
    layout = MapLayout(x.shape, x.dtype)
    scratch = [
        layout.rows_scratch(plan),
        layout.rows_scratch(plan),
        pltpu.VMEM((_channels_together(plan), *plan.matrix_shape), x.dtype),
    ]
    call = pl.pallas_call(
        functools.partial(_convolve, plan, layout),
        grid=layout.grid,
        in_specs=[layout.block_spec(), *map(layout.parameter_spec, parameters)],
        out_specs=layout.block_spec(),
        out_shape=layout.array,
        scratch_shapes=scratch,
        compiler_params=layout.compiler_params(2, scratch),
        name="toeplitz_convolve",
    )
    return layout.leave(call(layout.enter(x), *parameters))


def _call_sum(plan: Plan, x: jax.Array, g: jax.Array, mask: jax.Array) -> jax.Array:
    """Sums of the matrix's gradient along its diagonals: float32 `[C, sets * 8, 128]`."""
    layout = MapLayout(x.shape, x.dtype)
    scratch = [
        layout.rows_scratch(plan),
        layout.rows_scratch(plan),
        pltpu.VMEM((_channels_together(plan), *plan.matrix_shape), jnp.float32),
    ]
    result = (layout.grid[0], x.shape[-1], len(plan.kernel_rows) * _SUBLANES, LANES)
    call = pl.pallas_call(
        functools.partial(_kernel_gradient, plan, layout),
        grid=layout.grid,
        in_specs=[layout.block_spec(), layout.block_spec(), layout.parameter_spec(mask)],
        out_specs=pl.BlockSpec(
            (None, layout.channels, *result[2:]), lambda images, channels: (images, channels, 0, 0)
        ),
        out_shape=jax.ShapeDtypeStruct(result, jnp.float32),
        scratch_shapes=scratch,
        compiler_params=layout.compiler_params(2, scratch),
        name="toeplitz_kernel_gradient",
    )
    return call(layout.enter(x), layout.enter(g), mask).sum(0)


def _convolve(plan: Plan, layout: MapLayout, x_ref, taps_ref, mask_ref, *refs) -> None:
    *affine_ref, y_ref, seen_ref, mixed_ref, matrix_ref = refs
    read_rows(plan, layout, x_ref, seen_ref, owned=False)

    def mix_channel(channel: jax.Array, matrix_ref) -> None:
        _build_matrix(plan, taps_ref, mask_ref, channel, matrix_ref)
        for product in plan.products:
            rows = pl.ds(product.first, -(-product.rows // 16) * 16)
            seen = layout.load_rows(seen_ref, channel, _window_start(plan, product), plan.positions)
            y = _dot(matrix_ref[rows, : plan.positions], seen, contract_rhs=0)[: product.rows]
            for ref in affine_ref:
                scale_and_bias = ref[channel]
                y = jnp.maximum(y * scale_and_bias[:, 0:1] + scale_and_bias[:, 1:2], 0)
            layout.store_rows(mixed_ref, channel, _output_start(plan, product), y)

    _for_each_channel(layout, matrix_ref, mix_channel)
    write_rows(plan, layout, mixed_ref, y_ref)


def _kernel_gradient(
    plan: Plan,
    layout: MapLayout,
    x_ref,
    g_ref,
    mask_ref,
    sums_ref,
    seen_ref,
    cotangent_ref,
    matrix_ref,
) -> None:
    read_rows(plan, layout, x_ref, seen_ref, owned=False)
    read_rows(plan, layout, g_ref, cotangent_ref, owned=True)

    def sum_channel(channel: jax.Array, matrix_ref) -> None:
        matrix_ref[...] = jnp.zeros(matrix_ref.shape, matrix_ref.dtype)
        for product in plan.products:
            seen = layout.load_rows(seen_ref, channel, _window_start(plan, product), plan.positions)
            start = _output_start(plan, product)
            cotangent = layout.load_rows(cotangent_ref, channel, start, product.rows)
            rows = pl.ds(product.first, product.rows)
            matrix_ref[rows, : plan.positions] += _dot(cotangent, seen, contract_rhs=1)
        sums_ref[channel] = _sum_diagonals(plan, mask_ref, matrix_ref)

    _for_each_channel(layout, matrix_ref, sum_channel)


def _build_matrix(plan: Plan, taps_ref, mask_ref, channel: jax.Array, matrix_ref) -> None:
    """Fills row `i` of the matrix with the taps rolled by `i` lanes, times the mask."""
    for first, rows, place in plan.built:
        for offset in range(0, rows, LANES):
            count = min(LANES, rows - offset)
            to = pl.ds(place + offset, count)
            rolled = [
                _roll_rows(taps_ref[channel, pl.ds(s, 1)], first + offset, count)
                for s in range(len(plan.kernel_rows))
            ]
            for column in range(0, plan.matrix_shape[1], LANES):
                lanes = pl.ds(column, LANES)
                masks = (mask_ref[s, to, lanes].astype(jnp.float32) for s in range(len(rolled)))
                products = (taps * mask for taps, mask in zip(rolled, masks, strict=True))
                entries = functools.reduce(jnp.add, products)
                matrix_ref[to, lanes] = entries.astype(matrix_ref.dtype)


def _roll_rows(taps: jax.Array, shift: int, count: int) -> jax.Array:
    """Rolls `[1, 128]` right by `shift + i` into row `i` of `[count, 128]`; `count` <= 128."""
    first = pltpu.roll(taps, shift % LANES, 1) if shift % LANES else taps
    return pltpu.roll(jnp.broadcast_to(first, (count, LANES)), 0, 1, stride=1, stride_axis=0)


def _sum_diagonals(plan: Plan, mask_ref, matrix_ref) -> jax.Array:
    """The adjoint of `_build_matrix`, except for rolling row `i` of the result left by `i`.

    Returns:
      `[sets * 8, 128]`.
    """
    sums = []
    for s in range(len(plan.kernel_rows)):
        total = jnp.zeros((_SUBLANES, LANES), jnp.float32)
        for first, rows, place in plan.built:
            for offset in range(0, rows, _SUBLANES):
                at = pl.ds(place + offset, _SUBLANES)
                chunks = (pl.ds(c, LANES) for c in range(0, plan.matrix_shape[1], LANES))
                entries = functools.reduce(
                    jnp.add,
                    (
                        jnp.where(mask_ref[s, at, c].astype(jnp.float32) > 0, matrix_ref[at, c], 0)
                        for c in chunks
                    ),
                )
                left = -(first + offset) % LANES
                total += pltpu.roll(entries, left, 1) if left else entries
        sums.append(total)
    return jnp.concatenate(sums, axis=0)


def _tap_vectors(kernel: jax.Array, plan: Plan) -> jax.Array:
    """Puts taps into their lanes: `[kh, kw, C]` to float32 `[C, sets, 128]`."""
    taps = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
    return jnp.einsum("slk,kc->csl", plan.placement(), taps, precision=lax.Precision.HIGHEST)


def _taps_of_sums(sums: jax.Array, plan: Plan) -> jax.Array:
    """Does the last rolls of `_sum_diagonals` and takes the taps out of their lanes."""
    rolled = [jnp.roll(sums[:, :, row], -row, axis=-1) for row in range(_SUBLANES)]
    total = functools.reduce(jnp.add, rolled)
    taps = jnp.einsum("csl,slk->kc", total, plan.placement(), precision=lax.Precision.HIGHEST)
    return taps.reshape(*plan.connectivity.kernel_size, -1)


def _dot(a: jax.Array, b: jax.Array, contract_rhs: int) -> jax.Array:
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else lax.Precision.DEFAULT
    return lax.dot_general(
        a,
        b,
        (((1,), (contract_rhs,)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )


def _for_each_channel(
    layout: MapLayout, matrix_ref, work: Callable[[jax.Array, jax.Array], None]
) -> None:
    """Calls `work(channel, matrix)` for the block's channels, several in a step of a loop."""
    together = matrix_ref.shape[0]

    def step(i: jax.Array, _: None) -> None:
        for j in range(together):
            work(i * together + j, matrix_ref.at[j])

    lax.fori_loop(0, layout.channels // together, step, None)


def _plan(x: jax.Array, kernel_size: Pair, dilation: Pair) -> Plan:
    MapLayout(x.shape, x.dtype)  # rejects illegal maps before the search for a plan
    return make_plan((x.shape[1], x.shape[2]), Sliding(kernel_size, dilation))


def _channels_together(plan: Plan) -> int:
    together = _MOST_TOGETHER
    while together > 1 and together * plan.matrix_shape[0] > _ROWS_TOGETHER:
        together //= 2
    return together


def _window_start(plan: Plan, product: Product) -> int:
    """The position of a product's window among the rows of positions."""
    return _position(plan, product.tile, product.band.start)


def _output_start(plan: Plan, product: Product) -> int:
    return _position(plan, product.tile, product.band.first)


def _position(plan: Plan, tile: int, map_row: int) -> int:
    return tile * plan.lines * plan.line_length + map_row * plan.window[1]
