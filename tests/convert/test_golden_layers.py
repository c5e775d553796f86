"""Operators, layers and blocks against the authors' PyTorch code, on maps that are not square.

Errors are relative to the largest value of each array.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import LocallyConnected, ops
from dwconv_jax.models import BackboneConfig
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.families.dwnet import DWBlock, depthwise_layout
from dwconv_jax.models.families.swin import SwinBlock, attention_layout
from dwconv_jax.models.torch_layout import Entry
from dwconv_jax.ops.connectivity import Sliding, Window
from dwconv_jax.ops.lowerings.blocks import merge, partition
from tests import golden
from tests.golden import assert_golden

TOLERANCE = 3e-5
MODES = pytest.mark.parametrize("mode", ["eval", "train"])


def channels_last(x):
    return jnp.asarray(x).transpose(0, 2, 3, 1)


def channels_first(x):
    return x.transpose(0, 3, 1, 2)


def load(items, tensors):
    """Fills the variables of a layout; returns the part that was filled, by name."""
    entries = {item.name.removeprefix("."): item for item in items if isinstance(item, Entry)}
    entries = {name: entry for name, entry in entries.items() if name in tensors}
    for name, entry in entries.items():
        entry.write(tensors[name])
    return entries


def block_spec(features, mixer, mlp_ratio):
    return BlockSpec(
        config=BackboneConfig(mlp_ratio=mlp_ratio),
        in_features=features,
        features=features,
        mixer={"kernel_size": 7, **mixer},
    )


def run(module, entries, x, grad_output, train, residual=False):
    """Output, statistics and gradients, the latter two under PyTorch's names."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    y, grads, grad_input, stats = compute(graph, params, rest, x, grad_output, train, residual)
    nnx.update(module, stats)
    stats = {name: entry.read() for name, entry in entries.items()}
    nnx.update(module, grads)
    grads = {name: entry.read() for name, entry in entries.items()}
    return y, grad_input, grads, stats


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
def compute(graph, params, rest, x, grad_output, train, residual):
    def apply(params, x):
        module = nnx.merge(graph, params, rest, copy=True)
        y = module(x, train)
        return y - x if residual else y, nnx.state(module, nnx.BatchStat)

    y, pullback, stats = jax.vjp(apply, params, x, has_aux=True)
    return y, *pullback(grad_output), stats


def assert_gradients(actual, expected, mode):
    """Batch norm hides the bias before it: in training its gradient is rounding noise."""
    hidden = ("conv.bias", "conv1.0.bias") if mode == "train" else ()
    largest = max(np.abs(array).max() for array in expected.values())
    for name in [name for name in expected if name.endswith(hidden)]:
        assert np.abs(actual[name]).max() < 1e-6 * largest, name
        del expected[name]
    assert_golden(actual, expected, TOLERANCE)


def assert_statistics(actual, expected):
    counted = {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
    assert_golden(actual, counted, TOLERANCE)


# ---- The inhomogeneous operator.


@pytest.mark.parametrize("case", ["k7_g8", "k3_g12", "k5_g2"])
def test_inhomogeneous_operator(case):
    expected = golden.load("op_inhomogeneous").under(case)
    batch, groups, kernel, _, height, width = expected["weight"].shape
    # [B, G, k, k, H, W] there, [B, HW, 1, kk, G] here.
    weights = jnp.asarray(expected["weight"].transpose(0, 4, 5, 2, 3, 1))
    weights = weights.reshape(batch, height * width, 1, kernel**2, groups)
    mix = functools.partial(ops.locally_connected, connectivity=Sliding(kernel))
    y, pullback = jax.vjp(mix, channels_last(expected["input"]), weights)
    grad_input, grad_weight = pullback(channels_last(expected["grad_output"]))
    grad_weight = grad_weight.reshape(batch, height, width, kernel, kernel, groups)
    actual = {
        "output": channels_first(y),
        "grad_input": channels_first(grad_input),
        "grad_weight": grad_weight.transpose(0, 5, 3, 4, 1, 2),
    }
    assert_golden(actual, {name: expected[name] for name in actual}, TOLERANCE)


# ---- Dynamic depth-wise convolutions.


@MODES
@pytest.mark.parametrize(
    ("file", "flags"),
    [
        ("op_dynamic_dwconv", dict(dynamic="pooled")),
        ("op_idynamic_dwconv", dict(dynamic="centre", groups=8)),
    ],
)
def test_dynamic_convolution(file, flags, mode):
    expected = golden.load(file)
    layer = LocallyConnected(24, **flags, rngs=nnx.Rngs(0))
    entries = load(depthwise_layout(layer, ""), expected.under("param"))
    y, grad_input, grads, stats = run(
        layer,
        entries,
        channels_last(expected["input"]),
        channels_last(expected["grad_output"]),
        mode == "train",
    )
    actual = {"output": channels_first(y), "grad_input": channels_first(grad_input)}
    assert_golden(actual, {name: expected[f"{mode}/{name}"] for name in actual}, TOLERANCE)
    assert_gradients(grads, expected.under(f"{mode}/grad"), mode)
    if mode == "train":
        assert_statistics(stats, expected.under("stats"))


# ---- Blocks of the DWNet family.


@MODES
@pytest.mark.parametrize(
    ("case", "flags"),
    [
        ("static", dict()),
        ("dynamic", dict(dynamic="pooled")),
        ("inhomogeneous", dict(dynamic="centre", groups=8)),
    ],
)
def test_dw_block(case, flags, mode):
    expected = golden.load("op_dwblock")
    block = DWBlock(block_spec(24, flags, mlp_ratio=1), rngs=nnx.Rngs(0))
    # The authors' DWBlock is the part of ours before the residual sum and the MLP.
    block.mlp.fc2.kernel[...] = jnp.zeros((24, 24))
    params = {f"attn2conv.{k}": v for k, v in expected.under(f"{case}/param").items()}
    entries = load(block.torch_layout("", side=0), params)
    entries = {name.removeprefix("attn2conv."): entry for name, entry in entries.items()}
    y, grad_input, grads, stats = run(
        block,
        entries,
        jnp.asarray(expected[f"{case}/input"]),
        jnp.asarray(expected[f"{case}/grad_output"]),
        mode == "train",
        residual=True,
    )
    actual = {"output": y, "grad_input": grad_input}
    wanted = {name: expected[f"{case}/{mode}/{name}"] for name in actual}
    assert_golden(actual, wanted, TOLERANCE)
    assert_gradients(grads, expected.under(f"{case}/{mode}/grad"), mode)
    if mode == "train":
        assert_statistics(stats, expected.under(f"{case}/stats"))


# ---- Swin.

SWIN = [case["name"] for case in golden.load("op_swin_attention").config["cases"]]


def swin_case(name):
    expected = golden.load("op_swin_attention")
    (case,) = [case for case in expected.config["cases"] if case["name"] == name]
    flags = dict(
        connectivity="window",
        dynamic="attention",
        kernel_size=case["window_size"],
        shift=case["shift"],
        groups=case["num_heads"],
    )
    return case, flags, golden.Golden(case, expected.under(name))


@pytest.mark.parametrize("name", SWIN)
def test_swin_attention(name):
    case, flags, expected = swin_case(name)
    layer = LocallyConnected(case["dim"], **flags, rngs=nnx.Rngs(0))
    entries = load(attention_layout(layer, ""), expected.under("param"))
    window = Window(case["window_size"], case["shift"])
    # Without a shift the windows have nothing to do with each other: each is a map.
    size = case["resolution"] if case["shift"] else [case["window_size"]] * 2
    count = window.block_shape(*size)[0]

    def to_map(windows):
        blocks = jnp.asarray(windows).reshape(-1, count, *windows.shape[1:])
        return merge(blocks, window, tuple(size))

    def to_windows(x):
        blocks = partition(x, window)
        return blocks.reshape(-1, *blocks.shape[2:])

    y, grad_input, grads, _ = run(
        layer, entries, to_map(expected["input"]), to_map(expected["grad_output"]), train=True
    )
    actual = {"output": to_windows(y), "grad_input": to_windows(grad_input)}
    assert_golden(actual, {name: expected[name] for name in actual}, TOLERANCE)
    assert_golden(grads, expected.under("grad"), TOLERANCE)


@pytest.mark.parametrize("name", SWIN)
def test_swin_block(name):
    case, flags, expected = swin_case(name)
    block = SwinBlock(block_spec(case["dim"], flags, mlp_ratio=4), rngs=nnx.Rngs(0))
    load(block.torch_layout("", side=0), expected.under("block/param"))
    x = jnp.asarray(expected["block/input"])
    y = block(x.reshape(-1, *case["resolution"], case["dim"]), train=False)
    assert_golden({"block/output": y}, {"block/output": expected["block/output"]}, TOLERANCE)
