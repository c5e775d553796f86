"""The CUDA kernels, emulated on CPU, equal the definition, forward and both gradients."""

import functools
import itertools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import dwconv_jax
from dwconv_jax import ops
from dwconv_jax.ops.lowerings.gpu import emulation, matrix_kernels, register_kernels
from dwconv_jax.ops.lowerings.gpu.choice import forward_plans, gradient_plans
from dwconv_jax.ops.lowerings.gpu.plan import Case
from tests.numerics import assert_close

pytestmark = pytest.mark.skipif(not emulation.is_available(), reason="needs g++ on Linux")

# bfloat16 results are rounded to 2**-9; the definition gets the same rounded operands in float32.
TOLERANCE = {"float32": 1e-6, "bfloat16": 4e-3}


@pytest.fixture
def emulated():
    with emulation.emulated_kernels():
        yield


def normal(rng, dtype, *shape):
    return jnp.array(rng.normal(size=shape), dtype)


@functools.partial(jax.jit, static_argnums=(0,))
def value_and_gradients(operator, x, weights, cotangent):
    y, pullback = jax.vjp(operator, x, weights)
    return y, *pullback(cotangent.astype(y.dtype))


# Odd sizes, one channel a thread and two, bands and tiles that the map does not fill, two images in
# a product of the matrix unit, two and three products for a kernel row, blocks of 8 channels,
# kernels larger than the map, taps in groups.
CASES = [
    Case((2, 9, 11, 6), (3, 5), bfloat16=False),
    Case((2, 5, 16, 5), (5, 3), bfloat16=False, per_image=True),
    Case((3, 7, 7, 24), (7, 7)),
    Case((2, 17, 9, 8), (7, 7), per_image=True),
    Case((1, 18, 12, 24), (31, 17)),
    Case((1, 6, 61, 8), (3, 31)),
    Case((1, 33, 4, 10), (31, 3)),
    Case((2, 13, 10, 10), (13, 3), (2, 1)),
    Case((2, 7, 9, 3), (3, 3), (2, 3), bfloat16=False, per_image=True),
]
WIDE = [
    Case(shape, (k, k), (dilation, dilation), bfloat16, per_image)
    for shape, k, dilation, bfloat16, per_image in itertools.product(
        [(2, 9, 11, 6), (1, 14, 14, 40), (3, 8, 17, 5), (2, 20, 14, 8)],
        [3, 7, 9, 13, 31],
        [1, 2],
        [True, False],
        [True, False],
    )
]


@pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in WIDE)], ids=str
)
def test_every_plan_equals_the_definition(rng, case):
    dtype = "bfloat16" if case.bfloat16 else "float32"
    (batch, *_, channels), (kh, kw) = case.shape, case.kernel_size
    kernel_shape = batch if case.per_image else 1, kh, kw, channels
    x, g = normal(rng, dtype, *case.shape), normal(rng, dtype, *case.shape)
    kernel = normal(rng, dtype, *kernel_shape)

    weights = kernel.reshape(len(kernel), 1, 1, kh * kw, channels)
    connectivity = ops.Sliding(case.kernel_size, case.dilation)
    define = functools.partial(ops.definition.locally_connected, connectivity=connectivity)
    wide = (a.astype(jnp.float32) for a in (x, weights, g))
    y, _, gradient = value_and_gradients(define, *wide)

    for plan in forward_plans(case):
        actual = emulation.launch(plan, jax.ShapeDtypeStruct(x.shape, x.dtype), x, kernel)
        assert_close(actual, y, TOLERANCE[dtype], plan.kernel)
    for plan in gradient_plans(case):
        parts = jax.ShapeDtypeStruct((plan.partials, kh, kw, channels), jnp.float32)
        actual = emulation.launch(plan, parts, x, g)
        actual = actual if case.per_image else actual.sum(0)
        assert_close(actual.reshape(gradient.shape), gradient, 2e-6, plan.kernel)


def test_blocks_share_the_images(rng, monkeypatch):
    """As on large batches: a block sums several tiles, and XLA sums the blocks."""
    for kernels in (matrix_kernels, register_kernels):
        monkeypatch.setattr(kernels, "BLOCKS_AT_ONCE", 3)
    case = Case((9, 19, 9, 8), (7, 7))
    assert [plan.partials for plan in gradient_plans(case)] == [3, 3]
    test_every_plan_equals_the_definition(rng, case)


def check(rng, connectivity, shape, copies, dtype):
    weights_shape = copies, 1, 1, connectivity.block_shape(*shape[1:-1])[2], shape[-1]
    x, weights, g = (normal(rng, dtype, *s) for s in (shape, weights_shape, shape))
    wide = (a.astype(jnp.float32) for a in (x, weights, g))
    define = functools.partial(ops.definition.locally_connected, connectivity=connectivity)
    by_cuda = functools.partial(ops.locally_connected, connectivity=connectivity, lowering="cuda")
    expected = value_and_gradients(define, *wide)
    actual = value_and_gradients(by_cuda, x, weights, g)
    for name, a, e in zip(("y", "dx", "dw"), actual, expected, strict=True):
        assert a.dtype == x.dtype
        assert_close(a, e, TOLERANCE[dtype], name)


@pytest.mark.parametrize(
    ("connectivity", "shape", "copies", "dtype"),
    [
        (ops.Sliding(3), (2, 5, 7, 6), 1, "float32"),
        (ops.Sliding(5), (2, 5, 7, 8), 2, "bfloat16"),
        (ops.Sliding((3, 4), (1, 2), border=("wrap", "zero")), (2, 4, 6, 3), 2, "float32"),
        (ops.Sliding((4,), causal=True), (2, 9, 8), 1, "bfloat16"),
        (ops.Sliding((3, 3, 3)), (2, 3, 4, 3, 2), 1, "float32"),
    ],
    ids=str,
)
def test_operators_take_them(rng, emulated, connectivity, shape, copies, dtype):
    check(rng, connectivity, shape, copies, dtype)


def test_forward_mode_second_order_and_vmap_work(rng, emulated):
    x, w = normal(rng, "float32", 3, 1, 4, 5, 2), normal(rng, "float32", 1, 1, 1, 9, 2)

    def energy(lowering, x, w):
        return (ops.locally_connected(x, w, ops.Sliding(3), lowering) ** 2).sum()

    def hessian_product(lowering, x, w):
        gradient = jax.grad(functools.partial(energy, lowering), argnums=(0, 1))
        return jax.jvp(gradient, (x, w), (x, w))

    both = [
        jax.jit(jax.vmap(functools.partial(hessian_product, lowering), in_axes=(0, None)))(x, w)
        for lowering in ("cuda", "auto")
    ]
    for actual, expected in zip(*map(jax.tree.leaves, both), strict=True):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize("copies", [1, 8])
def test_devices_share_the_images_without_gathering_them(rng, emulated, copies):
    x, w = normal(rng, "float32", 8, 3, 4, 2), normal(rng, "float32", copies, 1, 1, 9, 2)
    mix = functools.partial(ops.locally_connected, connectivity=ops.Sliding(3))
    expected = value_and_gradients(mix, x, w, x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    with jax.set_mesh(mesh):
        arguments = jax.device_put((x, w, x), (split, whole if copies == 1 else split, split))
        by_cuda = functools.partial(mix, lowering="cuda")
        compiled = value_and_gradients.lower(by_cuda, *arguments).compile()
    text = compiled.as_text()
    assert not any(op in text for op in ("all-gather", "all-to-all", "collective-permute"))
    for actual, wanted in zip(compiled(*arguments), expected, strict=True):
        assert_close(actual, wanted, 1e-6)


def test_shard_map_takes_them(rng, emulated):
    x, w = normal(rng, "float32", 8, 3, 4, 2), normal(rng, "float32", 1, 1, 1, 9, 2)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def gradients(lowering, x, w):
        mix = functools.partial(ops.locally_connected, connectivity=ops.Sliding(3))
        return jax.grad(lambda x, w: (mix(x, w, lowering=lowering) ** 2).sum(), (0, 1))(x, w)

    split, whole = PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(
        functools.partial(gradients, "cuda"),
        mesh=mesh,
        in_specs=(split, whole),
        out_specs=(split, whole),
    )
    for actual, expected in zip(jax.jit(sharded)(x, w), gradients("auto", x, w), strict=True):
        assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("dynamic", ["none", "pooled"])
def test_a_layer_takes_it(rng, emulated, dynamic):
    layer = functools.partial(dwconv_jax.LocallyConnected, 8, kernel_size=3, dynamic=dynamic)
    x = normal(rng, "float32", 2, 3, 3, 8)
    expected = layer(rngs=nnx.Rngs(0))(x)
    assert_close(layer(lowering="cuda", rngs=nnx.Rngs(0))(x), expected, 1e-6)
