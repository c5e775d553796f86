"""Attention by tiles equals attention over gathered neighborhoods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import NamedSharding, PartitionSpec

from dwconv_jax.ops import Sliding
from dwconv_jax.ops.lowerings.tiles import attend
from tests.numerics import assert_close

SCALE = 0.3
SMALL = Sliding(3, border="clamp")
MIXED = Sliding((3, 2), (1, 2), border=("wrap", "clamp"), causal=(False, True))
# Connectivity, map, queries of a tile, key-value heads of 4 heads, bias.
CASES = [
    (Sliding((5,), (3,), border="clamp"), (17,), None, 4, True),
    (Sliding((4,), (2,), causal=True), (13,), (3,), 2, True),
    (Sliding((5,), (2,), stride=3, causal=True), (13,), (3,), 4, False),
    (Sliding((5,), stride=2, border="wrap"), (12,), (4,), 1, True),
    (Sliding(3), (7, 9), (3, 4), 4, True),
    (Sliding((4, 7), border="clamp"), (9, 7), None, 4, False),
    (Sliding((5, 4), stride=(3, 2), border="clamp"), (11, 9), (3, 4), 2, True),
    (Sliding(6, stride=4), (7, 9), (4, 8), 4, True),  # blocks of 4 with a halo of 1
    (Sliding((3, 2), (1, 2), border=("wrap", "clamp"), causal=(False, True)), (5, 7), (9, 9), 4, 0),
    (
        Sliding((2, 3, 3), (1, 2, 1), border=("zero", "clamp", "wrap")),
        (3, 7, 5),
        (2, 2, 3),
        2,
        True,
    ),
]


def assert_all_close(actual, expected, tolerance):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(a, e, tolerance)


def neighborhoods(connectivity, size):
    """What each position sees, -1 for nothing: int `[positions, K]`."""
    outputs, neighbours = connectivity.outputs(*size), connectivity.neighbours(*size)
    seen = np.empty((np.prod(size), neighbours.shape[-1]), int)
    seen[outputs[outputs >= 0]] = neighbours[outputs >= 0]
    return seen


def bias_index(connectivity, size, seen):
    """Indices into the axes of a bias table, for each position and each that it sees."""
    axes = zip(connectivity.kernel_size, connectivity.dilation, connectivity.border, strict=True)
    positions = np.unravel_index(np.arange(len(seen)), size)
    keys = np.unravel_index(np.maximum(seen, 0), size)
    for (kernel, dilation, border), length, query, key in zip(
        axes, size, positions, keys, strict=True
    ):
        difference = key - query[:, None]
        if border == "wrap":
            difference = (difference + length // 2) % length - length // 2
        yield np.clip(difference // dilation + kernel - 1, 0, 2 * kernel - 2)


def gathered(query, key, value, bias=None, *, connectivity):
    batch, *size, heads, _ = query.shape
    seen = neighborhoods(connectivity, size)
    query, key, value = (x.reshape(batch, len(seen), *x.shape[-2:]) for x in (query, key, value))
    key, value = (jnp.repeat(x, heads // x.shape[-2], 2)[:, seen] for x in (key, value))
    logits = SCALE * jnp.einsum("bnhd,bnkhd->bhnk", query, key)
    if bias is not None:
        logits += bias[(slice(None), *bias_index(connectivity, size, seen))][None]
    logits = jnp.where(seen >= 0, logits, -jnp.inf)
    out = jnp.einsum("bhnk,bnkhd->bnhd", jax.nn.softmax(logits), value)
    lse = jax.nn.logsumexp(logits, axis=-1).swapaxes(1, 2)
    return out.reshape(batch, *size, heads, -1), lse.reshape(batch, *size, heads)


def tiled(query, key, value, bias=None, *, connectivity, tile=None):
    return attend(query, key, value, bias, connectivity=connectivity, scale=SCALE, tile=tile)


def operands(rng, connectivity, size, kv_heads=4, bias=False, batch=2):
    shapes = [(batch, *size, *rest) for rest in ((4, 8), (kv_heads, 8), (kv_heads, 6))]
    if bias:
        shapes.append((4, *(2 * k - 1 for k in connectivity.kernel_size)))
    return tuple(jnp.array(rng.normal(size=shape), jnp.float32) for shape in shapes)


@functools.partial(jax.jit, static_argnums=0)
def results_and_gradients(function, inputs, cotangents):
    results, pullback = jax.vjp(function, *inputs)
    return results, pullback(cotangents)


# The others are slow: tests/ops/test_attention.py takes tiles through such options too.
SOME = [
    pytest.param(*case, marks=() if i in (1, 3, 6, 8) else pytest.mark.slow)
    for i, case in enumerate(CASES)
]


@pytest.mark.parametrize(("connectivity", "size", "tile", "kv_heads", "bias"), SOME)
def test_equals_gathered_attention(rng, connectivity, size, tile, kv_heads, bias):
    inputs = operands(rng, connectivity, size, kv_heads, bias)
    dense = functools.partial(gathered, connectivity=connectivity)
    ours = functools.partial(tiled, connectivity=connectivity, tile=tile)
    cotangents = dense(*inputs)
    expected = results_and_gradients(dense, inputs, cotangents)
    actual = results_and_gradients(ours, inputs, cotangents)
    assert_all_close(actual, expected, 1e-5)


def test_forward_mode_and_vmap(rng):
    ours = functools.partial(tiled, connectivity=SMALL)
    dense = functools.partial(gathered, connectivity=SMALL)
    inputs = operands(rng, SMALL, (5, 4), bias=True)
    tangents = jax.tree.map(jnp.cos, inputs)
    twice = jax.tree.map(lambda x, t: jnp.stack([x, t]), inputs, tangents)

    def directions(function):
        def along(inputs, tangents):
            return jax.jvp(function, inputs, tangents)[1]

        return jax.jit(jax.vmap(along))(twice, twice)

    assert_all_close(directions(ours), directions(dense), 1e-5)


def test_bfloat16_keeps_softmax_in_float32(rng):
    inputs = operands(rng, SMALL, (5, 4), bias=True)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), inputs)
    out, lse = tiled(*half, connectivity=SMALL)
    assert out.dtype == jnp.bfloat16 and lse.dtype == jnp.float32
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    expected_out, expected_lse = gathered(*rounded, connectivity=SMALL)
    assert_close(lse, expected_lse, 1e-5)  # products of bfloat16 are exact in float32
    assert_close(out, expected_out, 2e-2)


def test_exports_for_every_platform_and_batch(rng):
    ours = functools.partial(tiled, connectivity=SMALL)
    inputs = operands(rng, SMALL, (5, 4), batch=3)
    (batch,) = export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for x in inputs]
    exported = export.export(jax.jit(ours), platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert_all_close(exported.call(*inputs), gathered(*inputs, connectivity=SMALL), 1e-5)


def test_devices_compute_their_own_images(rng):
    inputs = operands(rng, SMALL, (5, 4), batch=8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        split = jax.device_put(inputs, NamedSharding(mesh, PartitionSpec("data")))
        compiled = jax.jit(functools.partial(tiled, connectivity=SMALL)).lower(*split).compile()
        assert "all-gather" not in compiled.as_text()
        assert_all_close(compiled(*split), gathered(*inputs, connectivity=SMALL), 1e-5)


def test_memory_is_inputs_logits_and_outputs():
    size, heads, batch = (28, 28), 4, 8
    connectivity = Sliding(7, border="clamp")
    inputs = [jax.ShapeDtypeStruct((batch, *size, heads, 32), jnp.float32)] * 3

    def gradients(*inputs):
        results, pullback = jax.vjp(functools.partial(tiled, connectivity=connectivity), *inputs)
        return results, pullback(results)

    compiled = jax.jit(gradients).lower(*inputs).compile()
    positions = batch * np.prod(size) * heads
    limit = 1.5 * 4 * positions * (4 * 32 + 49)  # queries, keys, values, outputs; logits
    assert compiled.memory_analysis().temp_size_in_bytes < limit


def test_scans_over_layers(rng):
    query, key, value = operands(rng, SMALL, (5, 4))
    value = jnp.pad(value, [(0, 0)] * 4 + [(0, 2)])

    def layer(x, key):
        return tiled(x, key, value, connectivity=SMALL)[0], None

    scanned = lax.scan(layer, query, jnp.stack([key, 2 * key]))[0]
    unrolled = layer(layer(query, key)[0], 2 * key)[0]
    assert_close(scanned, unrolled, 1e-5)
