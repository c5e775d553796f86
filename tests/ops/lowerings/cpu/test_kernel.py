"""The compiled kernel where it was built: against XLA's lowering and float64, and on devices."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax import ops
from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel
from dwconv_jax.ops.lowerings.cpu.shifted_sums import shifted_kernel_gradient, shifted_sum
from tests.numerics import assert_close, relative_error

pytestmark = pytest.mark.usefixtures("optimized")
needs_kernel = pytest.mark.skipif(not cpu_kernel.is_built(), reason="the kernel was not built")

# (map, kernel size, dilation): odd maps, tails of 16 channels, oblong and large kernels, kernels
# larger than the map, strips of tall maps, taps that never meet the map, none that does.
CASES = [
    ((2, 5, 7, 6), (3, 3), (1, 1)),
    ((2, 14, 15, 40), (7, 7), (1, 1)),
    ((1, 9, 130, 17), (5, 3), (1, 2)),
    ((3, 1, 50, 16), (1, 5), (1, 1)),
    ((2, 6, 6, 3), (4, 4), (2, 2)),
    ((1, 40, 33, 16), (31, 29), (1, 1)),
    ((1, 190, 60, 16), (7, 7), (3, 1)),
    ((2, 1, 1, 5), (7, 7), (3, 3)),
    ((1, 3, 3, 16), (3, 3), (5, 5)),
    ((2, 1, 17, 5), (2, 2), (2, 2)),
]


@pytest.fixture
def without_kernel(monkeypatch):
    monkeypatch.setenv("DWCONV_JAX_CPU_KERNEL", "0")
    jax.clear_caches()
    yield
    jax.clear_caches()


def normal(rng, *shape):
    return jnp.array(rng.normal(size=shape), jnp.float32)


@needs_kernel
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(("shape", "kernel_size", "dilation"), CASES, ids=str)
def test_it_equals_the_lowering_of_xla(rng, shape, kernel_size, dilation, per_image):
    x, g = normal(rng, *shape), normal(rng, *shape)
    kernel = normal(rng, shape[0] if per_image else 1, *kernel_size, shape[-1])
    expected = shifted_sum(x, kernel, dilation)
    assert_close(cpu_kernel.convolve(x, kernel, dilation), expected, 1e-6)
    expected = shifted_kernel_gradient(x, g, kernel_size, dilation)
    assert_close(cpu_kernel.kernel_gradient(x, g, kernel_size, dilation), expected, 1e-6)


@needs_kernel
@pytest.mark.parametrize(("height", "width"), [(112, 112), (1, 200_000)])
def test_kernel_gradients_over_large_maps_keep_their_precision(rng, height, width):
    """A single float32 accumulator over 12,544 positions would err by 5e-6."""
    x, g = normal(rng, 1, height, width, 16), normal(rng, 1, height, width, 16)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack(
        [
            (padded[:, i : i + height, j : j + width] * np.asarray(g, np.float64)).sum((1, 2))
            for i in range(3)
            for j in range(3)
        ],
        axis=1,
    ).reshape(1, 3, 3, 16)
    actual = cpu_kernel.kernel_gradient(x, g, (3, 3), (1, 1))
    assert relative_error(actual, expected) < 1e-6


def value_and_gradients(x, weights):
    y, pullback = jax.vjp(lambda x, w: ops.locally_connected(x, w, ops.Sliding(3)), x, weights)
    return y, *pullback(x)


@pytest.mark.parametrize("per_image", [False, True])
def test_devices_share_the_images_without_gathering_them(rng, per_image):
    x, weights = normal(rng, 16, 9, 7, 20), normal(rng, 16 if per_image else 1, 1, 1, 9, 20)
    expected = jax.jit(value_and_gradients)(x, weights)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["data"], []))
    arguments = jax.device_put((x, weights), (split, split if per_image else whole))
    compiled = jax.jit(value_and_gradients).lower(*arguments).compile()
    text = compiled.as_text()
    assert not any(op in text for op in ("all-gather", "all-to-all", "collective-permute"))
    for actual, wanted in zip(compiled(*arguments), expected, strict=True):
        assert_close(actual, wanted, 1e-6)


@needs_kernel
def test_bfloat16_is_computed_in_float32(rng):
    x, kernel = (normal(rng, *shape).astype(jnp.bfloat16) for shape in [(2, 9, 7, 20), (3, 3, 20)])

    def of(dtype):
        return jax.vjp(ops.depthwise_conv, x.astype(dtype), kernel.astype(dtype))

    (y, pullback), (expected, expected_pullback) = of(jnp.bfloat16), of(jnp.float32)
    assert "Dwconv" in jax.jit(ops.depthwise_conv).lower(x, kernel).as_text()
    for actual, wanted in zip(
        (y, *pullback(x)), (expected, *expected_pullback(x.astype(jnp.float32))), strict=True
    ):
        assert actual.dtype == jnp.bfloat16
        assert_close(actual.astype(jnp.float32), wanted, 2**-8)


@needs_kernel
def test_shard_map_uses_xla(rng):
    x = normal(rng, 8, 4, 4, 2)
    assert cpu_kernel.is_usable()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    kernel = normal(rng, 3, 3, 2)

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=spec, out_specs=spec)
    def sharded(x):
        return ops.depthwise_conv(x, kernel)

    assert_close(sharded(x), ops.depthwise_conv(x, kernel), 1e-6)


@needs_kernel
def test_the_environment_disables_it(rng, without_kernel):
    assert ops.describe_lowerings()["depthwise"] == "sums of shifted products"
    x, kernel = normal(rng, 1, 4, 4, 2), normal(rng, 3, 3, 2)
    assert "Dwconv" not in jax.jit(ops.depthwise_conv).lower(x, kernel).as_text()


def test_the_lowerings_in_use_are_named():
    named = ops.describe_lowerings()
    assert named["platform"] == "cpu"
    assert named["cpu_kernel"] is cpu_kernel.is_built()
    assert importlib.import_module("dwconv_jax.ops.lowerings.blocks").mix


@needs_kernel
def test_a_broken_shared_object_is_as_good_as_none(monkeypatch, tmp_path):
    broken = tmp_path / "kernel.so"
    broken.write_bytes(b"not a library")
    spec = importlib.util.spec_from_file_location("kernel", broken)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert not cpu_kernel.is_built.__wrapped__()
