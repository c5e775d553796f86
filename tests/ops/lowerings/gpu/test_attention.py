"""The attention kernels, emulated on CPU, equal attention over gathered neighborhoods."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax.ops import Sliding, attention
from dwconv_jax.ops.lowerings.gpu import emulation
from tests.numerics import assert_close
from tests.ops.lowerings.test_tiles import SCALE, gathered

pytestmark = pytest.mark.skipif(not emulation.is_available(), reason="needs g++ on Linux")

# bfloat16 results are rounded to 2**-9, and so are the weights and their gradients in products.
TOLERANCE = {"float32": 2e-6, "bfloat16": 8e-3}
SMALL = Sliding(3, border="clamp")
SHAPE = (5, 9, 2, 16)  # without images


@pytest.fixture
def emulated():
    with emulation.emulated_kernels():
        yield


def operands(rng, connectivity, shape, dtype="float32", kv_heads=None, bias=True, batch=1):
    """Query, key, value and perhaps a bias, and cotangents of the results; logits of variance 1."""
    *size, heads, depth = shape
    keys = (batch, *size, kv_heads or heads, depth)
    shapes = [(batch, *shape), keys, keys]
    if bias:
        shapes.append((heads, *(2 * k - 1 for k in connectivity.kernel_size)))
    draw = [rng.normal(size=s) for s in (*shapes, (batch, *shape))]
    draw[0] *= depth**-0.5 / SCALE
    draw = [jnp.array(x, dtype) for x in draw]
    lse = jnp.array(rng.normal(size=(batch, *size, heads)), jnp.float32)
    return draw[:-1], (draw[-1], lse)


def by_cuda(query, key, value, bias=None, *, connectivity, lowering="cuda"):
    return attention.attend(
        query, key, value, connectivity, scale=SCALE, bias=bias, lowering=lowering
    )


@functools.partial(jax.jit, static_argnums=0)
def results_and_gradients(function, inputs, cotangents):
    results, pullback = jax.vjp(function, *inputs)
    return results, pullback(jax.tree.map(lambda c, r: c.astype(r.dtype), cotangents, results))


def check(function, inputs, cotangents, expected, tolerance):
    actual = results_and_gradients(function, inputs, cotangents)
    names = ("out", "lse", "query", "key", "value", "bias")
    leaves = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for name, (a, e) in zip(names, leaves, strict=False):
        assert_close(a, e, tolerance, name)


def check_case(rng, connectivity, shape, dtype, **others):
    inputs, cotangents = operands(rng, connectivity, shape, dtype, **others)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (inputs, cotangents))
    dense = functools.partial(gathered, connectivity=connectivity)
    ours = functools.partial(by_cuda, connectivity=connectivity)
    expected = results_and_gradients(dense, *wide)
    check(ours, inputs, cotangents, expected, TOLERANCE[dtype])


# Tiles that the map does not fill, shared keys, even and causal kernels, dilation groups of unequal
# sizes, two passes over the columns of a product, a sequence.
@pytest.mark.parametrize(
    ("connectivity", "shape", "dtype", "others"),
    [
        (SMALL, SHAPE, "float32", dict(kv_heads=1)),
        (
            Sliding((4, 11), (2, 1), border=("clamp", "zero")),
            (9, 10, 1, 32),
            "bfloat16",
            dict(bias=False),
        ),
        (Sliding((5,), (2,), causal=True), (19, 1, 16), "bfloat16", dict(batch=2)),
    ],
    ids=str,
)
def test_equals_gathered_attention(rng, emulated, connectivity, shape, dtype, others):
    check_case(rng, connectivity, shape, dtype, **others)


WIDE = [
    (Sliding(kernel, dilation, border=border, causal=causal), shape, dtype, dict(bias=bias))
    for (kernel, dilation, shape), (border, bias), causal, dtype in itertools.product(
        [
            ((3, 3), 1, (3, 3, 1, 48)),
            ((7, 7), 1, (9, 18, 2, 32)),
            ((7, 7), 1, (20, 8, 1, 64)),
            ((2, 5), (3, 2), (7, 21, 1, 16)),
            ((13, 13), 1, (14, 19, 1, 16)),
            ((9, 9), 1, (15, 9, 1, 64)),  # rows pass through shared memory in parts
        ],
        [("zero", False), ("clamp", True)],
        [False, (True, False)],
        ["float32", "bfloat16"],
    )
]


@pytest.mark.slow
@pytest.mark.parametrize(("connectivity", "shape", "dtype", "others"), WIDE, ids=str)
def test_every_case(rng, emulated, connectivity, shape, dtype, others):
    check_case(rng, connectivity, shape, dtype, **others)


@pytest.mark.parametrize("own_biases", [False, True])
def test_vmap_of_gradients(rng, emulated, own_biases):
    inputs, cotangents = operands(rng, SMALL, SHAPE)
    axes = [0, None, 0, 0 if own_biases else None]
    stacked = [
        x if a is None else jnp.stack([x, jnp.cos(x)]) for x, a in zip(inputs, axes, strict=True)
    ]

    def gradients(lowering, *inputs):
        ours = functools.partial(by_cuda, connectivity=SMALL, lowering=lowering)
        return results_and_gradients(ours, inputs, cotangents)

    both = [
        jax.vmap(functools.partial(gradients, lowering), axes)(*stacked)
        for lowering in ("cuda", "auto")
    ]
    for actual, expected in zip(*map(jax.tree.leaves, both), strict=True):
        assert_close(actual, expected, 5e-6)


def test_devices_compute_their_own_images(rng, emulated):
    inputs, cotangents = operands(rng, SMALL, SHAPE, batch=8)
    ours = functools.partial(by_cuda, connectivity=SMALL)
    by_xla = functools.partial(ours, lowering="auto")
    expected = results_and_gradients(by_xla, inputs, cotangents)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    with jax.set_mesh(mesh):
        arguments = jax.device_put((inputs, cotangents), ([split] * 3 + [whole], split))
        text = results_and_gradients.lower(ours, *arguments).compile().as_text()
        assert not any(op in text for op in ("all-gather", "all-to-all", "collective-permute"))
        check(ours, *arguments, expected, 5e-6)


def test_shard_map_takes_them(rng, emulated):
    inputs, cotangents = operands(rng, SMALL, SHAPE, batch=8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("data"), PartitionSpec()

    def gradients(lowering, inputs, cotangents):
        ours = functools.partial(by_cuda, connectivity=SMALL, lowering=lowering)
        return jax.vjp(ours, *inputs)[1](cotangents)

    specs = (split, split, split, whole)
    sharded = jax.shard_map(
        functools.partial(gradients, "cuda"),
        mesh=mesh,
        in_specs=(list(specs), split),
        out_specs=specs,
    )
    expected = jax.jit(functools.partial(gradients, "auto"))(inputs, cotangents)
    for actual, wanted in zip(jax.jit(sharded)(inputs, cotangents), expected, strict=True):
        assert_close(actual, wanted, 5e-6)


def test_other_platforms_do_without_it(rng):
    inputs, _ = operands(rng, SMALL, SHAPE)
    auto, ours = (
        functools.partial(by_cuda, connectivity=SMALL, lowering=lowering)
        for lowering in ("auto", "cuda")
    )
    for actual, expected in zip(ours(*inputs), auto(*inputs), strict=True):
        np.testing.assert_array_equal(actual, expected)
    tangents = [jnp.ones_like(x) for x in inputs]
    _, forward = jax.jit(functools.partial(jax.jvp, ours))(inputs, tangents)
    assert all(jnp.isfinite(t).all() for t in forward)
