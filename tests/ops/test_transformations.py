"""Sliding operators under JAX's transformations: each equals the same of the definition."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax import ops
from dwconv_jax.ops.lowerings.per_position import tap_products
from tests.numerics import assert_close

SLIDING = ops.Sliding((3, 1))
WEIGHTS = {"static": (1, 1, 1, 3, 2), "pooled": (2, 1, 1, 3, 2), "centre": (2, 6, 1, 3, 1)}
kinds = pytest.mark.parametrize("kind", WEIGHTS)


def operands(rng, kind, *mapped, batch=2):
    """`x` and `weights`; of `batch` images and, before them, of `mapped` axes."""
    copies, *rest = WEIGHTS[kind]
    shapes = (batch, 3, 2, 2), (1 if copies == 1 else batch, *rest)
    return tuple(jnp.array(rng.normal(size=(*mapped, *s)), jnp.float32) for s in shapes)


def fast(x, weights):
    return jnp.sin(ops.locally_connected(x, weights, SLIDING))


def defined(x, weights):
    return jnp.sin(ops.definition.locally_connected(x, weights, SLIDING))


def check(transform, *arguments, tolerance=1e-5):
    actual, expected = (jax.jit(transform(f))(*arguments) for f in (fast, defined))
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(a, e, tolerance)


def value_and_gradients(f):
    def call(x, weights):
        y, pullback = jax.vjp(f, x, weights)
        return y, *pullback(y)

    return call


@kinds
def test_forward_mode(rng, kind):
    def tangents(f):
        def call(primals, tangents):
            _, push = jax.linearize(f, *primals)
            return jax.jvp(f, primals, tangents), push(*tangents)

        return call

    check(tangents, operands(rng, kind), operands(rng, kind))


@kinds
def test_jacobians_of_both_modes(rng, kind):
    def jacobians(f):
        return lambda x, w: [mode(f, argnums=(0, 1))(x, w) for mode in (jax.jacfwd, jax.jacrev)]

    check(jacobians, *operands(rng, kind))


@kinds
def test_second_derivatives(rng, kind):
    def derivatives(f):
        def loss(x, w):
            return (f(x, w) ** 2).sum()

        def penalty(x, w):
            return sum((g**2).sum() for g in jax.grad(loss, argnums=(0, 1))(x, w))

        def call(x, w):
            return [d(x, w) for d in (jax.hessian(loss, (0, 1)), jax.grad(penalty, (0, 1)))]

        return call

    check(derivatives, *operands(rng, kind))


@kinds
@pytest.mark.parametrize("axes", [(0, 0), (1, None), (None, 2)])
def test_vmap_of_gradients_and_gradients_of_vmap(rng, kind, axes):
    def both(f):
        mapped = jax.vmap(f, axes)
        return lambda x, w: (
            jax.vmap(value_and_gradients(f), axes)(x, w),
            value_and_gradients(mapped)(x, w),
        )

    arrays = (
        a[0] if axis is None else jnp.moveaxis(a, 0, axis)
        for a, axis in zip(operands(rng, kind, 3), axes, strict=True)
    )
    check(both, *arrays)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_products_of_one_image_vmap(rng, axes):
    x, g = (jnp.array(rng.normal(size=(3, 1, 3, 2, 2)), jnp.float32) for _ in range(2))
    x, g = (a[0] if axis is None else a for a, axis in zip((x, g), axes, strict=True))
    together = jax.vmap(lambda x, g: tap_products(x, g, 1, SLIDING), axes)(x, g)
    apart = [
        tap_products(
            *(a[i] if axis == 0 else a for a, axis in zip((x, g), axes, strict=True)), 1, SLIDING
        )
        for i in range(3)
    ]
    assert_close(together, jnp.stack(apart), 1e-6)


@kinds
def test_scan_and_checkpoint(rng, kind):
    def repeated(f):
        def call(x, w):
            step = jax.checkpoint(lambda x, _: (f(x, w), None))
            return jax.lax.scan(step, x, length=3)[0]

        return value_and_gradients(call)

    check(repeated, *operands(rng, kind))


@kinds
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_shard_map(rng, kind, axis_type):
    """Cotangents of weights that all devices share are summed over them."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    split = PartitionSpec("data")
    specs = split, PartitionSpec() if kind == "static" else split
    x, w = operands(rng, kind, batch=8)
    with jax.set_mesh(mesh):
        mapped = functools.partial(jax.shard_map, mesh=mesh)
        across = mapped(fast, in_specs=specs, out_specs=split)
        within = mapped(value_and_gradients(fast), in_specs=specs, out_specs=(split, *specs))
        placed = [
            jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip((x, w), specs, strict=True)
        ]
        actual = [jax.jit(f)(*placed) for f in (value_and_gradients(across), within)]
        tangents = jax.jit(lambda *a: jax.jvp(across, a, a)[1])(*placed)
    for a, e in zip(jax.tree.leaves(actual), 2 * value_and_gradients(defined)(x, w), strict=True):
        assert_close(a, e, 1e-5)
    assert_close(tangents, jax.jvp(defined, (x, w), (x, w))[1], 1e-5)


@kinds
def test_gradients_for_any_number_of_images(rng, kind):
    x, weights = operands(rng, kind)
    (batch,) = jax.export.symbolic_shape("batch")
    arguments = (
        jax.ShapeDtypeStruct((1 if len(a) == 1 else batch, *a.shape[1:]), a.dtype)
        for a in (x, weights)
    )
    gradients = jax.jit(value_and_gradients(fast))
    exported = jax.export.export(gradients)(*arguments)
    for a, e in zip(exported.call(x, weights), gradients(x, weights), strict=True):
        assert_close(a, e, 1e-6)


def test_maps_of_any_size_for_a_fixed_number_of_images(rng):
    x, weights = operands(rng, "static")
    height, width = jax.export.symbolic_shape("height, width")
    maps = jax.ShapeDtypeStruct((2, height, width, 2), x.dtype)
    exported = jax.export.export(jax.jit(fast))(maps, weights)
    assert_close(exported.call(x, weights), fast(x, weights), 1e-6)


def test_taps_that_never_meet_the_map_cost_nothing(rng):
    x, kernel = (jnp.array(rng.normal(size=s), jnp.float32) for s in ((1, 4, 5, 2), (3, 7, 2)))
    convolve = functools.partial(ops.depthwise_conv, dilation=(10**6, 2))
    program = jax.jit(
        lambda x, k: (convolve(x, k), *jax.grad(lambda *a: convolve(*a).sum(), (0, 1))(x, k))
    )
    compiled = program.lower(x, kernel).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10**5
    y, _, gradient = compiled(x, kernel)
    assert_close(y, ops.depthwise_conv(x, kernel[1:2], (1, 2)), 1e-6)
    assert not gradient[0].any() and not gradient[2].any() and not gradient[:, 0].any()
    assert gradient[1, 1:6].all()
