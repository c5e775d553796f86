"""The layer of every legal combination of flags is the definition fed by its weight source."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import LocallyConnected, ops
from dwconv_jax.layers.canvas import WHOLE
from tests.numerics import assert_close

MAP, CHANNELS, GROUPS = (5, 7), 8, 4
SHAPES = {
    "sliding": [dict(kernel_size=3), dict(kernel_size=(3, 5), dilation=2)],
    "window": [dict(kernel_size=3), dict(kernel_size=4, shift=2)],
    "global": [dict()],
}
SHARING = {
    "none": (True, False),
    "pooled": (True, False),
    "centre": (False,),
    "attention": (False,),
}


def legal_flags():
    for connectivity, dynamic in itertools.product(SHAPES, SHARING):
        cases = itertools.product(SHAPES[connectivity], SHARING[dynamic], (1, GROUPS, CHANNELS))
        for shape, share, groups in cases:
            flags = dict(
                connectivity=connectivity,
                dynamic=dynamic,
                share_positions=share,
                groups=groups,
                map_size=MAP,
                **shape,
            )
            # One number of groups for the plain shape, the extremes for the other one.
            quick = (groups == GROUPS) == (shape == SHAPES[connectivity][0])
            yield pytest.param(flags, marks=() if quick else pytest.mark.slow, id=name_of(flags))


def name_of(flags):
    return "-".join(str(v) for k, v in flags.items() if k != "map_size").replace(" ", "")


def make(**flags):
    return LocallyConnected(CHANNELS, rngs=nnx.Rngs(0), **flags)


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(graph, params, rest, x):
    """Output and gradients of a layer, by its lowering and by the definition."""

    def apply(mix, params, x):
        layer = nnx.merge(graph, params, rest, copy=True)
        weights, values = layer.source(x, False, WHOLE)
        y = mix(values, weights, layer.connectivity)
        y = y if layer.bias is None else y + layer.bias[...][None, None, None]
        return y if layer.proj is None else layer.proj(y)

    def lowered(params, x):
        return nnx.merge(graph, params, rest, copy=True)(x)

    defined = functools.partial(apply, ops.definition.locally_connected)
    cotangent = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    results = []
    for function in (lowered, defined):
        y, pullback = jax.vjp(function, params, x)
        results.append((y, *pullback(cotangent)))
    return results


@pytest.mark.parametrize("flags", list(legal_flags()))
def test_every_legal_combination_equals_the_definition(flags, rng):
    layer = make(**flags)
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    x = jnp.array(rng.normal(size=(2, *MAP, CHANNELS)), jnp.float32)
    results = jax.device_get(with_gradients(graph, params, rest, x))
    (y, dparams, dx), (y_def, dparams_def, dx_def) = results
    assert_close(y, y_def, 1e-5, "output")
    assert_close(dx, dx_def, 1e-5, "dx")
    largest = max(np.abs(g).max() for g in jax.tree.leaves(dparams_def))
    for (path, g), g_def in zip(
        jax.tree_util.tree_leaves_with_path(dparams), jax.tree.leaves(dparams_def), strict=True
    ):
        # Attention does not depend on the bias of its keys: that gradient is only rounding.
        assert np.abs(g - g_def).max() <= 1e-5 * max(largest, 1), jax.tree_util.keystr(path)


def test_four_layers_from_three_flags_have_the_weights_of_the_design(rng):
    x = jnp.array(rng.normal(size=(2, 14, 14, 12)), jnp.float32)
    for flags, shape in [
        (dict(), (1, 1, 1, 49, 12)),
        (dict(dynamic="pooled"), (2, 1, 1, 49, 12)),
        (dict(dynamic="centre", groups=4), (2, 196, 1, 49, 4)),
        (dict(connectivity="window", dynamic="attention", groups=3), (2, 4, 49, 49, 3)),
    ]:
        layer = LocallyConnected(12, **flags, rngs=nnx.Rngs(0))
        weights, _ = layer.source(x, False, WHOLE)
        assert weights.shape == shape
        assert layer(x).shape == x.shape


def attention_weights(rng, side):
    layer = make(connectivity="window", kernel_size=4, shift=2, dynamic="attention", groups=GROUPS)
    x = jnp.array(rng.normal(size=(1, side, side, CHANNELS)), jnp.float32)
    weights, _ = layer.source(x, False, WHOLE)
    return np.asarray(weights).max((0, -1)), layer.connectivity.outputs(side, side)


def test_attention_ignores_padding(rng):
    weights, outputs = attention_weights(rng, 6)
    padded_keys = np.broadcast_to(outputs[:, None] < 0, weights.shape)
    assert padded_keys.any() and weights[padded_keys].max() == 0


def test_attention_does_not_cross_the_seam(rng):
    weights, outputs = attention_weights(rng, 8)
    (window,), (query,) = (outputs == 0).nonzero()
    beyond = outputs[window] >= 6 * 8  # rows that the roll brought next to row 0
    assert beyond.sum() == 8 and weights[window, query, beyond].max() < 1e-30


def test_attention_on_a_small_map_shrinks_its_window(rng):
    x = jnp.array(rng.normal(size=(1, 3, 3, 4)), jnp.float32)
    flags = dict(connectivity="window", dynamic="attention", groups=2)
    shifted = LocallyConnected(4, kernel_size=7, shift=3, **flags, rngs=nnx.Rngs(0))
    plain = LocallyConnected(4, kernel_size=7, **flags, rngs=nnx.Rngs(0))
    assert_close(shifted(x), plain(x), 1e-6)


def test_bfloat16_stays_close_and_keeps_float32_parameters(rng):
    x = jnp.array(rng.normal(size=(2, 7, 7, 8)), jnp.float32)
    for dynamic, groups in [("none", 8), ("pooled", 8), ("centre", 2), ("attention", 2)]:
        connectivity = "window" if dynamic == "attention" else "sliding"
        flags = dict(connectivity=connectivity, dynamic=dynamic, groups=groups)
        narrow = LocallyConnected(8, **flags, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        wide = LocallyConnected(8, **flags, rngs=nnx.Rngs(0))
        assert {p.dtype for p in jax.tree.leaves(nnx.state(narrow, nnx.Param))} == {
            jnp.dtype("float32")
        }
        y = narrow(x)
        assert y.dtype == jnp.bfloat16
        assert_close(y, wide(x), 3e-2, dynamic)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("dynamic", list(SHARING))
def test_without_a_dtype_the_input_keeps_its_own(dynamic, dtype, rng):
    connectivity = "window" if dynamic == "attention" else "sliding"
    layer = make(connectivity=connectivity, kernel_size=3, dynamic=dynamic, groups=2)
    x = jnp.array(rng.normal(size=(2, 5, 7, 8)), dtype)
    for train in (False, True):
        y = layer(x, train=train)
        assert y.dtype == dtype
        assert_close(y, layer(x.astype(jnp.float32), train=train), 5e-2)
    assert {p.dtype for p in jax.tree.leaves(nnx.state(layer))} == {jnp.dtype("float32")}


def test_initialisation_is_the_reference(rng):
    static = LocallyConnected(64, rngs=nnx.Rngs(0))
    kernel = static.source.kernel[...]
    assert 0.98 / 7 < jnp.abs(kernel).max() <= 1 / 7 and jnp.abs(static.bias[...]).max() <= 1 / 7
    pooled = LocallyConnected(64, dynamic="pooled", rngs=nnx.Rngs(0))
    assert not pooled.bias[...].any() and pooled.source.predict.bias[...].any()
    attention = LocallyConnected(
        64, connectivity="window", dynamic="attention", groups=2, rngs=nnx.Rngs(0)
    )
    assert 0.019 < attention.source.qkv.kernel[...].std() < 0.021
    assert not attention.source.qkv.bias[...].any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(connectivity="stripe"), "connectivity must be one of 'sliding', 'window', 'grid'"),
        (dict(dynamic="center"), "dynamic must be one of 'none', 'pooled', 'centre', 'attention'"),
        (dict(groups=3), r"groups=3 must divide the 8 channels: legal are \[1, 2, 4, 8\]"),
        (dict(reduction=0), "reduction must be at least 1, got 0"),
        (dict(stride=8), r"stride=\(8, 8\) must be at most kernel_size"),
        (dict(connectivity="grid", border="wrap"), "border='wrap' needs connectivity='sliding'"),
        (dict(shift=1), "shift=1 needs connectivity='window', got 'sliding'"),
        (dict(connectivity="window", dilation=2), "dilation=2 needs connectivity='sliding'"),
        (dict(dynamic="centre", share_positions=True), "share_positions=True does not go with"),
        (dict(share_positions="yes"), "share_positions must be one of True, False, None"),
        (
            dict(connectivity="global"),
            r"map_size must be \(H, W\), got None: connectivity=Global",
        ),
        (dict(share_positions=False), "dynamic='none' with share_positions=False has parameters"),
        (dict(dynamic="pooled", share_positions=False), "map_size must be"),
        (dict(connectivity="window", kernel_size=7, shift=7), "must be smaller than window_size"),
    ],
)
def test_wrong_flags_are_named(flags, message):
    with pytest.raises(ValueError, match=message):
        make(**flags)


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match=r"x must be \[B, H, W, 8\], got shape \(1, 5, 7, 4\)"):
        make()(jnp.zeros((1, 5, 7, 4)))
    with pytest.raises(ValueError, match=r"x must be \[B, 5, 7, 8\], got shape \(1, 7, 5, 8\)"):
        make(map_size=MAP)(jnp.zeros((1, 7, 5, 8)))
