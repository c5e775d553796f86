"""Every lowering equals the definition, forward and both gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax import ops
from dwconv_jax.ops.lowerings.native_conv import native_conv
from dwconv_jax.ops.lowerings.per_position import (
    per_position,
    seen_by,
    tap_products,
    taps_at_once,
)
from dwconv_jax.ops.lowerings.tpu import images_in_lanes
from tests.numerics import assert_close

# bfloat16 has 8 bits of mantissa: operands and results are rounded to 2**-9 of their size, and a
# gradient sums products of values rounded twice.
TOLERANCE = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}

SLIDING = [
    ops.Sliding(3),
    ops.Sliding((1, 5)),
    ops.Sliding((5, 3), dilation=(1, 2)),
    ops.Sliding(4, 2),
]
# Beside plain kernels on maps of two axes: each with the size of a map.
OTHERS = [
    (ops.Sliding((4,), causal=True), (9,)),
    (ops.Sliding((4,), 2, border="wrap"), (9,)),
    (ops.Sliding(4), (5, 6)),
    (ops.Sliding(3, (1, 2), border="clamp"), (5, 7)),
    (ops.Sliding((3, 5), border=("wrap", "clamp")), (4, 6)),
    (ops.Sliding(5, stride=2, border="clamp"), (7, 6)),
    (ops.Sliding(6, stride=4), (7, 9)),  # blocks of 4 with a halo of 1
    (ops.Sliding(3, (1, 2), stride=(2, 3), causal=(True, False)), (5, 11)),
    (ops.Sliding((3, 2, 3), border=("zero", "wrap", "zero")), (4, 3, 5)),
    (ops.Sliding((2, 3, 3), causal=(True, False, False), border="clamp"), (3, 4, 5)),
    (ops.Window((None, 3)), (4, 5)),
    (ops.Window((2, 3, 2), shift=(1, 0, 1)), (3, 5, 4)),
    (ops.Grid(3), (7, 6)),
    (ops.Grid((2,)), (5,)),
    (ops.Global(), (2, 3, 2)),
]
WINDOWS = [ops.Window(4), ops.Window(4, shift=1), ops.Window((2, 3), shift=(1, 0)), ops.Window(9)]


def operands(rng, connectivity, shape, groups, batched, per_block, dtype):
    batch, *size, _ = shape
    blocks, outputs, seen = connectivity.block_shape(*size)
    weights = (batch if batched else 1, blocks if per_block else 1, outputs, seen, groups)
    return tuple(jnp.array(rng.normal(size=s), dtype) for s in (shape, weights, shape))


@functools.partial(jax.jit, static_argnums=(0, 4))
def value_and_gradients(operator, x, weights, cotangent, connectivity):
    y, pullback = jax.vjp(lambda x, w: operator(x, w, connectivity), x, weights)
    return y, *pullback(cotangent.astype(y.dtype))


def check(operator, connectivity, x, weights, cotangent, tolerance):
    wide = (a.astype(jnp.float32) for a in (x, weights, cotangent))
    expected = value_and_gradients(ops.definition.locally_connected, *wide, connectivity)
    actual = value_and_gradients(operator, x, weights, cotangent, connectivity)
    for name, a, e in zip(("y", "dx", "dw"), actual, expected, strict=True):
        assert a.dtype == x.dtype
        assert_close(a, e, tolerance, f"{name} of {connectivity}")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("per_block", [False, True])
@pytest.mark.parametrize("connectivity", [*SLIDING, *WINDOWS, ops.Global()], ids=str)
def test_lowerings_equal_the_definition(rng, connectivity, batched, per_block, dtype):
    args = operands(rng, connectivity, (2, 5, 7, 6), 3, batched, per_block, dtype)
    check(ops.locally_connected, connectivity, *args, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("connectivity", "size", "dynamic"),
    [
        pytest.param(*case, dynamic, marks=() if (i + dynamic) % 2 else pytest.mark.slow)
        for i, case in enumerate(OTHERS)
        for dynamic in (False, True)
    ],
    ids=str,
)
def test_one_to_three_axes_with_borders_strides_and_causality(rng, connectivity, size, dynamic):
    """Static weights that blocks share, and dynamic weights that they do not."""
    args = operands(rng, connectivity, (2, *size, 6), 3, dynamic, dynamic, jnp.float32)
    check(ops.locally_connected, connectivity, *args, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(("batched", "per_block"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize(("connectivity", "size"), OTHERS, ids=str)
def test_all_weights_of_them(rng, connectivity, size, batched, per_block, groups, dtype):
    args = operands(rng, connectivity, (2, *size, 6), groups, batched, per_block, dtype)
    check(ops.locally_connected, connectivity, *args, TOLERANCE[dtype])


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("per_block", [False, True])
@pytest.mark.parametrize("connectivity", [ops.Sliding(3), ops.Window(4, shift=2)], ids=str)
def test_any_number_of_groups(rng, connectivity, per_block, groups):
    args = operands(rng, connectivity, (2, 6, 5, 6), groups, True, per_block, jnp.float32)
    check(ops.locally_connected, connectivity, *args, 1e-5)


@pytest.mark.parametrize("batched", [False, True])
def test_large_kernels_loop_over_rows(rng, batched):
    connectivity = ops.Sliding(11, dilation=(2, 1))
    args = operands(rng, connectivity, (2, 6, 9, 4), 4, batched, False, jnp.float32)
    check(ops.locally_connected, connectivity, *args, 1e-5)


def test_wide_maps_take_several_fusions_a_row(rng):
    args = operands(rng, ops.Sliding(3), (1, 3, 131, 2), 2, False, False, jnp.float32)
    check(ops.locally_connected, ops.Sliding(3), *args, 1e-5)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("connectivity", [ops.Sliding(3), ops.Sliding((3, 5), dilation=2)], ids=str)
def test_the_native_convolution_of_other_platforms(rng, connectivity, batched):
    x, weights, cotangent = operands(
        rng, connectivity, (2, 6, 7, 4), 4, batched, False, jnp.float32
    )

    def native(x, weights, connectivity):
        kernel = weights.reshape(-1, *connectivity.kernel_size, x.shape[-1])
        return native_conv(x, kernel, connectivity.dilation)

    check(native, connectivity, x, weights, cotangent, 1e-5)


def test_maps_of_one_position(rng):
    for connectivity in (ops.Sliding(7), ops.Window(7), ops.Global()):
        args = operands(rng, connectivity, (1, 1, 1, 4), 2, True, True, jnp.float32)
        check(ops.locally_connected, connectivity, *args, 1e-5)


def test_mixed_dtypes_promote(rng):
    x, weights, _ = operands(rng, ops.Sliding(3), (1, 4, 4, 2), 2, False, False, jnp.float32)
    y = ops.locally_connected(x.astype(jnp.bfloat16), weights, ops.Sliding(3))
    assert y.dtype == jnp.float32


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "connectivity", "message"),
    [
        (
            (4, 4, 2),
            (1, 1, 1, 9, 2),
            ops.Sliding(3),
            r"x must be floating \[B, H, W, C\].*\[4, 4, 2\]",
        ),
        ((2, 4, 4, 2), (1, 1, 1, 3, 2), ops.Sliding((3,)), r"floating \[B, L, C\].*\[2, 4, 4, 2\]"),
        ((2, 4, 2), (1, 1, 1, 5, 2), ops.Sliding((5,), border="clamp"), "on an axis of 4"),
        ((1, 0, 4, 2), (1, 1, 1, 9, 2), ops.Sliding(3), "no empty axis"),
        ((2, 4, 4, 2), (1, 9, 2), ops.Sliding(3), r"must be \[2 or 1, 16 or 1, 1, 9, G\]"),
        ((2, 4, 4, 2), (3, 1, 1, 9, 2), ops.Sliding(3), r"got shape \(3, 1, 1, 9, 2\)"),
        ((2, 4, 4, 2), (1, 1, 4, 4, 2), ops.Window(3), r"\[2 or 1, 4 or 1, 9, 9, G\]"),
        (
            (2, 4, 4, 6),
            (1, 1, 1, 9, 4),
            ops.Sliding(3),
            r"G=4 must divide the 6 channels.*\[1, 2, 3, 6\]",
        ),
    ],
)
@pytest.mark.parametrize("operator", [ops.locally_connected, ops.definition.locally_connected])
def test_wrong_shapes_say_what_is_legal(operator, x_shape, weight_shape, connectivity, message):
    with pytest.raises(ValueError, match=message):
        operator(jnp.zeros(x_shape), jnp.zeros(weight_shape), connectivity)


@pytest.mark.parametrize("operator", [ops.locally_connected, ops.definition.locally_connected])
def test_a_name_is_no_connectivity(operator):
    with pytest.raises(ValueError, match=r"must be an ops\.Connectivity.*got 'sliding'"):
        operator(jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 1, 1, 9, 2)), "sliding")


def test_sizes_may_be_integers_of_numpy():
    assert ops.Sliding(np.int64(3), np.int32(2)) == ops.Sliding(3, 2)


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"x must be floating.*uint8\[1, 4, 4, 2\]"):
        ops.locally_connected(
            np.zeros((1, 4, 4, 2), np.uint8), jnp.zeros((1, 1, 1, 9, 2)), ops.Sliding(3)
        )


@pytest.mark.parametrize("connectivity", SLIDING)
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_tap_products_of_gpus(rng, connectivity, groups):
    x, g = (jnp.array(rng.normal(size=(2, 7, 6, 6)), jnp.float32) for _ in range(2))
    actual = taps_at_once(x, g, groups=groups, connectivity=connectivity)
    assert_close(actual, tap_products(x, g, groups, connectivity), 1e-6)


@pytest.mark.parametrize("connectivity", SLIDING)
@pytest.mark.parametrize(("groups", "copies"), [(1, 2), (3, 1), (6, 2)])
def test_weights_of_each_position_on_tpus(rng, connectivity, groups, copies):
    taps = connectivity.kernel_size[0] * connectivity.kernel_size[1]
    x, g = (jnp.array(rng.normal(size=(2, 7, 6, 6)), jnp.float32) for _ in range(2))
    weights = jnp.array(rng.normal(size=(copies, 7, 6, taps, groups)), jnp.float32)
    mixed = images_in_lanes.mix(x, weights, connectivity=connectivity)
    assert_close(mixed, per_position(x, weights, connectivity), 1e-6)
    collected = images_in_lanes.seen_by(g, weights, connectivity=connectivity)
    assert_close(collected, seen_by(g, weights, connectivity), 1e-6)
    products = images_in_lanes.tap_products(x, g, groups=groups, connectivity=connectivity)
    assert_close(products, tap_products(x, g, groups, connectivity), 1e-6)


def test_sums_on_tpus_are_float32(rng):
    """As elsewhere: a sum of 49 in bfloat16 would be off by percents."""
    x = jnp.array(rng.normal(size=(2, 8, 8, 4)), jnp.bfloat16)
    weights = jnp.array(rng.normal(size=(2, 8, 8, 49, 2)), jnp.bfloat16)
    y = images_in_lanes.mix(x, weights, connectivity=ops.Sliding(7))
    wide = (a.astype(jnp.float32) for a in (x, weights))
    exact = per_position(*wide, ops.Sliding(7))
    assert y.dtype == jnp.bfloat16
    assert_close(y, exact, 4e-3)
