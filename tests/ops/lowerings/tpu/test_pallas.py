"""The Pallas kernels for TPU, interpreted on CPU, equal the definition."""

import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax import ops
from dwconv_jax.ops.lowerings.tpu import depthwise as pallas_depthwise
from dwconv_jax.ops.lowerings.tpu import rows as pallas_rows
from dwconv_jax.ops.lowerings.tpu.platform import interpreted_kernels
from tests.numerics import assert_close

# bfloat16 results are rounded to 2**-9; the definition gets the same rounded operands in float32.
TOLERANCE = {"float32": 1e-6, "bfloat16": 4e-3}


@pytest.fixture
def interpreted(monkeypatch):
    # Work written out side by side is what compiling the interpreted kernels takes.
    monkeypatch.setattr(pallas_depthwise, "_MOST_TOGETHER", 2)
    monkeypatch.setattr(pallas_rows, "_MOST_IN_STRIP", 4)
    monkeypatch.setattr(pallas_rows, "_MOST_IN_PART", 2)
    with interpreted_kernels():
        yield


def normal(rng, dtype, *shape):
    return jnp.array(rng.normal(size=shape), dtype)


@functools.partial(jax.jit, static_argnums=(0,))
def value_and_gradients(operator, x, weights, cotangent):
    y, pullback = jax.vjp(operator, x, weights)
    return y, *pullback(cotangent.astype(y.dtype))


def check(rng, connectivity, x_shape, weight_shape, dtype):
    x, weights, cotangent = (normal(rng, dtype, *s) for s in (x_shape, weight_shape, x_shape))
    wide = (a.astype(jnp.float32) for a in (x, weights, cotangent))
    define = functools.partial(ops.definition.locally_connected, connectivity=connectivity)
    by_pallas = functools.partial(
        ops.locally_connected, connectivity=connectivity, lowering="pallas"
    )
    expected = value_and_gradients(define, *wide)
    actual = value_and_gradients(by_pallas, x, weights, cotangent)
    for name, a, e in zip(("y", "dx", "dw"), actual, expected, strict=True):
        assert a.dtype == x.dtype
        assert_close(a, e, TOLERANCE[dtype], name)


# (map, kernel, dtype): one window of odd size and two blocks of channels; channels in the lanes;
# a kernel larger than the map; two blocks of images; several bands; tiles; several vectors of taps.
# What a plan does is tested with NumPy in test_toeplitz.py: interpreting is slow.
STATIC = [
    ((2, 3, 5, 20), ops.Sliding(3), "bfloat16"),
    ((1, 3, 4, 128), ops.Sliding((1, 3)), "bfloat16"),
    ((1, 2, 3, 10), ops.Sliding(7), "float32"),
    ((129, 2, 2, 3), ops.Sliding((3, 1), dilation=(1, 2)), "float32"),
    pytest.param((1, 12, 12, 2), ops.Sliding(7), "bfloat16", marks=pytest.mark.slow),
    pytest.param((1, 3, 160, 2), ops.Sliding((3, 11)), "float32", marks=pytest.mark.slow),
    pytest.param((1, 6, 24, 2), ops.Sliding(11), "float32", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("shape", "connectivity", "dtype"), STATIC, ids=str)
def test_static_depthwise_equals_the_definition(rng, interpreted, shape, connectivity, dtype):
    taps = connectivity.block_shape(1, 1)[2]
    check(rng, connectivity, shape, (1, 1, 1, taps, shape[-1]), dtype)


# (map, groups, kernel, dtype), where groups of weights are None if positions share them: images in
# the lanes and in the sublanes; several members of a group, strips of a row and steps of kernel.
DYNAMIC = [
    ((2, 3, 5, 6), None, ops.Sliding(3), "bfloat16"),
    ((3, 2, 4, 128), None, ops.Sliding((3, 1), dilation=(1, 2)), "float32"),
    ((2, 3, 4, 6), 2, ops.Sliding(3), "bfloat16"),
    ((2, 4, 3, 17), 17, ops.Sliding((1, 5)), "float32"),
]


@pytest.mark.parametrize(("shape", "groups", "connectivity", "dtype"), DYNAMIC, ids=str)
def test_dynamic_weights_equal_the_definition(rng, interpreted, shape, groups, connectivity, dtype):
    batch, height, width, channels = shape
    blocks, _, taps = connectivity.block_shape(height, width)
    weights = (batch, 1 if groups is None else blocks, 1, taps, groups or channels)
    check(rng, connectivity, shape, weights, dtype)


def test_scale_bias_and_relu_fuse(rng, interpreted):
    x, kernel = normal(rng, "float32", 2, 3, 3, 5), normal(rng, "float32", 3, 3, 5)
    affine = normal(rng, "float32", 5, 2)
    scale, bias = affine.T[:, None, None, None]
    expected = jax.nn.relu(ops.depthwise_conv(x, kernel) * scale + bias)
    convolve = jax.jit(pallas_depthwise.convolve, static_argnums=2)
    assert_close(convolve(x, kernel, (1, 1), affine), expected, 1e-6)


def test_devices_share_the_images_without_gathering_them():
    """Compiled for four chips that need not exist; skipped without TPU's compiler."""
    pytest.importorskip("libtpu")
    program = textwrap.dedent(_SHARDED_PROGRAM)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    hlo = result.stdout
    assert hlo.count("tpu_custom_call") >= 3 and "all-reduce" in hlo
    assert not any(op in hlo for op in ("all-gather", "all-to-all", "collective-permute"))


_SHARDED_PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding
    from dwconv_jax import ops
    from dwconv_jax.aot.topologies import abstract_devices

    mesh = Mesh(np.reshape(abstract_devices("v5e:2x2"), (2, 2)), ("data", "fsdp"))
    split, whole = NamedSharding(mesh, jax.P(("data", "fsdp"))), NamedSharding(mesh, jax.P())
    x = jax.ShapeDtypeStruct((512, 7, 7, 128), jnp.bfloat16, sharding=split)
    weights = jax.ShapeDtypeStruct((1, 1, 1, 9, 128), jnp.bfloat16, sharding=whole)

    def value_and_gradients(x, weights):
        mix = lambda x, w: ops.locally_connected(x, w, ops.Sliding(3), "pallas")
        y, pullback = jax.vjp(mix, x, weights)
        return y, *pullback(y)

    with jax.set_mesh(mesh):
        print(jax.jit(value_and_gradients).lower(x, weights).compile().as_text())
"""


@pytest.mark.parametrize("dynamic", ["none", "centre"])
def test_a_layer_takes_it(rng, interpreted, dynamic):
    layer = functools.partial(
        dwconv_jax.LocallyConnected, 4, kernel_size=3, dynamic=dynamic, groups=4
    )
    x = normal(rng, "float32", 1, 3, 3, 4)
    rngs = [nnx.Rngs(0) for _ in range(2)]
    expected = layer(rngs=rngs[0])(x)
    assert_close(layer(lowering="pallas", rngs=rngs[1])(x), expected, 1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(lowering="mosaic"), "lowering must be one of 'auto', 'pallas', 'cuda', got 'mosaic'"),
        (dict(lowering="pallas", connectivity="window"), r"got Window\(.*use lowering='auto'"),
        (
            dict(lowering="pallas", share_positions=False, map_size=(3, 3)),
            r"static weights of each position; use",
        ),
    ],
)
def test_what_it_does_not_cover_is_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        dwconv_jax.LocallyConnected(4, **flags, rngs=nnx.Rngs(0))


def test_rows_too_long_for_fast_memory_are_refused():
    x, weights = jnp.zeros((1, 1, 9000, 1)), jnp.zeros((1, 9000, 1, 9, 1))
    with pytest.raises(ValueError, match=r"rows.*maps float32\[1, 9000\] need \d+ MiB; use"):
        ops.locally_connected(x, weights, ops.Sliding(3), "pallas")


def test_maps_too_large_for_fast_memory_are_refused():
    x, weights = jnp.zeros((1, 224, 224, 1)), jnp.zeros((1, 1, 1, 9, 1))
    with pytest.raises(
        ValueError, match=r"maps float32\[224, 224\] need \d+ MiB; use lowering='auto'"
    ):
        ops.locally_connected(x, weights, ops.Sliding(3), "pallas")


def test_dtypes_without_a_kernel_are_refused():
    x, weights = jnp.zeros((1, 4, 4, 1), jnp.float16), jnp.zeros((1, 1, 1, 9, 1), jnp.float16)
    with pytest.raises(ValueError, match="takes float32 or bfloat16, got float16"):
        ops.locally_connected(x, weights, ops.Sliding(3), "pallas")


def mix_on(kind, *shape):
    """Traces the operator for a TPU that need not be there."""
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=1, platform="tpu")
    x, weights = (
        jax.ShapeDtypeStruct(sizes, jnp.bfloat16) for sizes in (shape, (1, 1, 1, 9, shape[-1]))
    )
    mesh = jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.eval_shape(
            lambda x, weights: ops.locally_connected(x, weights, ops.Sliding(3), "pallas"),
            x,
            weights,
        )


def test_chips_without_the_instruction_are_refused():
    with pytest.raises(ValueError, match="needs TPU v5e, v5p, v6e or later, found TPU v4; use"):
        mix_on("TPU v4", 128, 4, 4, 1)


def test_fast_memory_is_that_of_the_chip():
    assert mix_on("TPU v5 lite", 128, 56, 56, 96).shape == (128, 56, 56, 96)
    with pytest.raises(ValueError, match=r"memory, 55 MiB of it; maps bfloat16\[56, 56\] need 7"):
        mix_on("TPU v5", 128, 56, 56, 96)


@pytest.mark.parametrize("groups", [None, 2])
def test_other_platforms_do_without_it(rng, groups):
    """A model trained with it on TPU runs anywhere, also in a program for any batch size."""
    connectivity = ops.Sliding(3)
    shape = (2, 1, 1, 9, 4) if groups is None else (2, 20, 1, 9, groups)
    check(rng, connectivity, (2, 4, 5, 4), shape, "float32")

    (batch,) = jax.export.symbolic_shape("b")
    mix = jax.jit(lambda x, w: ops.locally_connected(x, w, connectivity, "pallas"))
    x, weights = normal(rng, "float32", 2, 4, 5, 4), normal(rng, "float32", *shape)
    exported = jax.export.export(mix)(
        *(jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in (x, weights))
    )
    assert_close(exported.call(x, weights), mix(x, weights), 1e-6)
