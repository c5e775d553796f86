"""What surrounds the CUDA kernels: plans, errors, the call, and what runs without NVRTC."""

import functools
import itertools
import tomllib
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax import ops
from dwconv_jax.ops.lowerings.gpu import nvrtc, ptx_call
from dwconv_jax.ops.lowerings.gpu.attention_kernels import AttentionCase, Neighborhood
from dwconv_jax.ops.lowerings.gpu.attention_kernels import plans as attention_plans
from dwconv_jax.ops.lowerings.gpu.choice import forward_plans, gradient_plans
from dwconv_jax.ops.lowerings.gpu.plan import MOST_SHARED_BYTES, Case
from tests.numerics import assert_close

STAGES = [(128, 56, 56, 96), (128, 28, 28, 192), (128, 14, 14, 384), (128, 7, 7, 768)]
mix = functools.partial(ops.locally_connected, connectivity=ops.Sliding(3), lowering="cuda")


def plans(case):
    return [*forward_plans(case), *gradient_plans(case)]


@pytest.mark.parametrize("shape", [*STAGES, (70_000, 5, 3, 7), (2, 1, 9000, 4), (1, 300, 300, 24)])
def test_launches_respect_the_limits_of_gpus(shape):
    for k, bfloat16, per_image in itertools.product((1, 3, 7, 13, 31), *[(True, False)] * 2):
        for plan in plans(Case(shape, (k, k), (1, 1), bfloat16, per_image)):
            (_, y, z), threads = plan.grid, plan.block[0] * plan.block[1]
            assert y <= 65_535 and z <= 65_535 and threads <= 1024
            assert plan.shared_bytes <= MOST_SHARED_BYTES
            assert threads * dict(plan.macros)["BLOCKS"] <= 2048


@pytest.mark.parametrize(
    ("case", "forward", "gradient"),
    [
        (Case(STAGES[0], (7, 7)), "toeplitz", "toeplitz_gradient"),
        (Case(STAGES[2], (7, 7)), "slide", "toeplitz_gradient"),
        (Case(STAGES[2], (13, 13)), "toeplitz", "toeplitz_gradient"),
        (Case(STAGES[2], (7, 7), (2, 2)), "slide", "gradient"),
        (Case(STAGES[2], (31, 31), bfloat16=False), "tile", "gradient"),
        (Case((8, 56, 56, 100), (7, 7)), "slide", "gradient"),
    ],
)
def test_kernels_are_chosen_by_shape(case, forward, gradient):
    assert forward_plans(case)[0].kernel == forward
    assert gradient_plans(case)[0].kernel == gradient


@pytest.mark.parametrize(
    ("depth", "k", "bfloat16", "bias"),
    [(32, 7, True, False), (32, 13, True, True), (64, 7, False, True), (128, 31, True, False)],
)
def test_launches_of_attention_respect_the_limits_of_gpus(depth, k, bfloat16, bias):
    for size in (k, 56, 57):
        along = Neighborhood(k, dilation=1, before=k // 2, clamp=True)
        case = AttentionCase((2, size, size, 3, depth), along, along, 0.5, bfloat16, bias)
        for plan in attention_plans(case):
            macros = dict(plan.macros)
            assert plan.grid == (2 * plan.partials * 3, 1, 1) and plan.block[0] <= 256
            assert plan.shared_bytes <= MOST_SHARED_BYTES
            assert macros["SPAN"] % 16 == 0 and macros["SPAN"] >= min(size, 8 + k - 1)


def test_neighborhoods_too_wide_for_shared_memory_are_refused(with_nvrtc):
    x = jnp.ones((1, 500, 1, 128))
    with pytest.raises(ValueError, match="no kernel for 201 columns of keys in heads of 128 chan"):
        ops.neighborhood_attention(x, x, x, 201, border="zero", lowering="cuda")


def test_few_images_are_split_into_bands():
    def slide(batch):
        plans = forward_plans(Case((batch, *STAGES[2][1:]), (5, 5)))
        return next(plan for plan in plans if plan.kernel == "slide")

    assert dict(slide(128).macros)["ROWS"] == 14
    few = slide(8)
    assert dict(few.macros)["ROWS"] == 7 and few.grid[0] == 8


def operands(dtype=jnp.float32, size=(4, 5), taps=9, channels=2):
    return jnp.ones((2, *size, channels), dtype), jnp.ones((1, 1, 1, taps, channels), dtype)


@pytest.fixture
def with_nvrtc(monkeypatch):
    """NVRTC that returns fixed text, and no memory of it."""
    monkeypatch.setattr(nvrtc, "is_available", lambda: True)
    monkeypatch.setattr(nvrtc, "compile_ptx", lambda path, definitions: '\t"ptx"\n')
    ptx_call._config.cache_clear()
    jax.clear_caches()
    yield
    ptx_call._config.cache_clear()
    jax.clear_caches()


def test_programs_for_gpus_carry_the_kernel(with_nvrtc):
    program = jax.jit(mix).trace(*operands()).lower(lowering_platforms=("cuda", "cpu"))
    text = program.as_text()
    assert '@"__gpu$xla.gpu.ptx"' in text or "@__gpu$xla.gpu.ptx" in text
    assert all(f"grid_{axis} = " in text for axis in "xyz")
    assert "ptx" not in jax.jit(mix).lower(*operands()).as_text()


def test_programs_for_gpus_carry_the_kernels_of_attention(with_nvrtc):
    x = jnp.ones((2, 5, 6, 2, 16), jnp.bfloat16)

    def gradients(x):
        near = functools.partial(ops.neighborhood_attention, kernel_size=3, lowering="cuda")
        return jax.grad(lambda *arrays: near(*arrays).astype(jnp.float32).sum(), (0, 1, 2))(x, x, x)

    program = jax.jit(gradients).trace(x).lower(lowering_platforms=("cuda",))
    text = program.as_text()
    kernels = ("neighborhood", "neighborhood_query_gradient", "neighborhood_key_gradient")
    assert all(f"name = \\22{kernel}\\22" in text for kernel in kernels)


def test_without_nvrtc_it_is_the_lowering_of_xla(monkeypatch):
    monkeypatch.setattr(nvrtc, "is_available", lambda: False)
    jax.clear_caches()
    text = jax.jit(mix).trace(*operands()).lower(lowering_platforms=("cuda",)).as_text()
    assert "convolution" in text and "ptx" not in text
    assert "NVRTC is not installed" in ops.describe_lowerings()["cuda"]
    jax.clear_caches()


def test_other_platforms_and_any_batch_size_do_without_it():
    x, weights = operands()
    auto = ops.locally_connected(x, weights, ops.Sliding(3))
    assert_close(mix(x, weights), auto, 1e-6)
    (batch,) = jax.export.symbolic_shape("b")
    symbolic = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(mix))(symbolic, weights)
    assert_close(exported.call(x, weights), auto, 1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (operands(jnp.float16), "all float32 or all bfloat16, got float16; use lowering='auto'"),
        (operands(size=(1, 90), taps=3 * 65), "no kernel for 65 columns of taps that meet the map"),
    ],
)
def test_what_the_kernels_do_not_take_is_refused(with_nvrtc, arguments, message):
    taps = arguments[1].shape[3]
    with pytest.raises(ValueError, match=message):
        ops.locally_connected(*arguments, ops.Sliding((3, taps // 3)), "cuda")


def attend(width=16, dtype=jnp.float32, **options):
    x = jnp.ones((1, 5, 6, 2, width), dtype)
    return ops.neighborhood_attention(x, x, x, 3, lowering="cuda", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(width=24), "heads of a multiple of 16 channels, at most 128.*got 24 and 24; use"),
        (dict(dtype=jnp.float16), "all float32 or all bfloat16, got float16; use lowering='auto'"),
        (
            dict(border="wrap"),
            r"no kernel for attention over Sliding\(.*wrap.*; use",
        ),
        (dict(stride=2), r"no kernel for attention over Sliding\(.*stride"),
        (dict(mask=jnp.ones((1, 1, 1, 1, 9), bool)), "mask needs lowering='auto', got 'cuda'"),
    ],
)
def test_attention_that_the_kernels_do_not_take_is_refused(with_nvrtc, options, message):
    with pytest.raises(ValueError, match=message):
        attend(**options)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(connectivity="window"), r"'cuda' has kernels for sliding.*got Window\("),
        (dict(dynamic="centre"), "weights of each position; use lowering='auto'"),
        (dict(border="clamp"), r"got Sliding\("),
        (dict(stride=2), r"got Sliding\("),
    ],
)
def test_layers_that_it_does_not_cover_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        dwconv_jax.LocallyConnected(4, **flags, lowering="cuda", rngs=nnx.Rngs(0))


def test_older_gpus_are_refused(monkeypatch):
    volta = types.SimpleNamespace(compute_capability="7.0")
    monkeypatch.setattr(jax, "devices", lambda: [volta])
    jax.clear_caches()
    with pytest.raises(ValueError, match=r"needs compute capability 8.0.*found 7.0; use"):
        mix(*operands())


def test_wheels_carry_the_sources():
    root = Path(__file__).parents[4]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert data["package-data"]["dwconv_jax.ops.lowerings.gpu"] == ["kernels/*"]
    assert Path(ptx_call.SOURCES).name == "kernels"


@pytest.mark.skipif(not nvrtc.is_available(), reason="NVRTC is not installed")
@pytest.mark.parametrize("k", [7, 31])
def test_nvrtc_compiles_every_kernel(k):
    for plan in plans(Case(STAGES[2], (k, k))):
        assert f".entry {plan.kernel}(" in ptx_call.compile_plan(plan)


@pytest.mark.skipif(not nvrtc.is_available(), reason="NVRTC is not installed")
@pytest.mark.parametrize("bfloat16", [True, False])
def test_nvrtc_compiles_every_kernel_of_attention(bfloat16):
    along = Neighborhood(7, dilation=1, before=3, clamp=True)
    case = AttentionCase((2, 14, 14, 2, 32), along, along, 0.5, bfloat16, bias=True)
    for plan in attention_plans(case):
        assert f".entry {plan.kernel}(" in ptx_call.compile_plan(plan)


@pytest.mark.skipif(not nvrtc.is_available(), reason="NVRTC is not installed")
def test_errors_of_the_compiler_are_shown():
    path = str(Path(ptx_call.SOURCES) / "slide.cu")
    with pytest.raises(RuntimeError, match=r"nvrtcCompileProgram failed.*\n.*error"):
        nvrtc.compile_ptx(path, ("-DH=1",))
