"""Maps on canvases: what counts is computed as if there were nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.layers import BatchNorm, LayerNorm, LocallyConnected
from dwconv_jax.layers.canvas import WHOLE, Canvas, inside
from dwconv_jax.models import BackboneConfig, DenseBackbone
from dwconv_jax.models.families import cswin, dwnet, halonet, maxvit, swin, swin_v2, uniformer
from dwconv_jax.ops import Global, Grid, Window
from dwconv_jax.ops.dispatch import partition
from tests.numerics import assert_close


def test_what_counts():
    mask = inside(jnp.array([[1, 2], [2, 0]]), (2, 3))[..., 0]
    assert mask.tolist() == [[[True, True, False], [False] * 3], [[False] * 3] * 2]
    assert Canvas(jnp.array([[1, 1]])).clear(jnp.ones((1, 2, 2, 1))).sum() == 1
    assert Canvas(jnp.array([[7, 8]])).padded((7, 5)).extent.tolist() == [[7, 10]]
    assert Canvas(jnp.array([[7, 8]])).strided(4).extent.tolist() == [[2, 2]]
    assert WHOLE.padded((7, 7)) is WHOLE and WHOLE.strided(4) is WHOLE


@pytest.mark.parametrize("connectivity", [Window((3, 2), (2, 1)), Grid((3, 2))])
def test_rolling_a_part(rng, connectivity):
    """Each part then has the blocks that it has on a map of its own."""
    x = jnp.asarray(rng.standard_normal((2, 9, 8, 3)), jnp.float32)
    canvas = Canvas(jnp.array([[6, 4], [9, 8]]))
    rolled = canvas.roll(x, connectivity)
    for i, (height, width) in enumerate(canvas.extent.tolist()):
        blocks = partition(rolled[i : i + 1, :height, :width], canvas.rolled(connectivity))
        expected = partition(x[i : i + 1, :height, :width], connectivity)
        np.testing.assert_array_equal(blocks, expected)
    np.testing.assert_array_equal(canvas.unroll(rolled, connectivity), x)


@pytest.mark.parametrize("group_size", [None, 2])
def test_statistics_of_a_part(rng, group_size):
    x = rng.normal(2, 3, (4, 5, 6, 3)).astype(np.float32)
    valid = np.asarray(inside(jnp.array([[2, 3], [5, 6], [1, 6], [4, 4]]), (5, 6)))
    norm = BatchNorm(3, group_size=group_size)
    norm(jnp.where(valid, x, 1e3), train=True, valid=jnp.asarray(valid))
    groups = [x[i : i + 2][valid[i : i + 2, ..., 0]] for i in (0, 2)]
    groups = groups if group_size else [np.concatenate(groups)]
    assert_close(norm.mean[...], 0.1 * np.mean([g.mean(0) for g in groups], 0), 1e-5)
    unbiased = np.mean([g.var(0, ddof=1) for g in groups], 0)
    assert_close(norm.var[...], 0.9 + 0.1 * unbiased, 1e-5)


def backbone(family, **mixer):
    config = BackboneConfig(embed_dim=8, depths=(2, 1), window_size=5)
    model = DenseBackbone(family, mixer, config, rngs=nnx.Rngs(0))
    for _, norm in nnx.iter_modules(model):
        if isinstance(norm, (BatchNorm, LayerNorm)):  # some families' start at zero
            norm.scale[...] = jnp.ones_like(norm.scale[...])
    return model


@pytest.mark.parametrize(
    ("family", "mixer"),
    [
        (dwnet.FAMILY, dict(connectivity="sliding", dynamic="pooled")),
        (dwnet.FAMILY, dict(connectivity="sliding", dynamic="centre", channels_per_group=4)),
        (swin.FAMILY, dict(connectivity="window", dynamic="attention", groups=2)),
        (
            swin_v2.FAMILY,
            dict(
                connectivity="window",
                dynamic="attention",
                groups=2,
                attention=dict(position_bias="mlp", cosine=True, qkv_bias="qv"),
            ),
        ),
        (
            halonet.family(halonet.Design(("ca", "a"), gate=True, stem_features=8)),
            halonet.blocked_attention(2, block=2, halo=1),
        ),
        (
            maxvit.family(8),
            dict(connectivity="window", dynamic="attention", groups=2, kernel_size=2, shift=0),
        ),
        (
            cswin.FAMILY,
            dict(connectivity="window", dynamic="attention", groups=2, kernel_size=2),
        ),
        (
            dataclasses.replace(
                uniformer.VARIANTS["uniformer_small"].family,
                block=functools.partial(uniformer.GlobalBlock, layer_scale=None),
            ),
            dict(
                connectivity="global",
                dynamic="attention",
                groups=2,
                attention=dict(position_bias=None),
            ),
        ),
    ],
)
def test_a_canvas_changes_nothing(family, mixer, rng):
    """Maps and batch statistics of two images, on a canvas and cut to their size."""
    graph, state = nnx.split(backbone(family, **mixer))

    @jax.jit
    def features(state, images, extent=None):
        model = nnx.merge(graph, state, copy=True)
        maps = model.features(images, True, None, Canvas(extent))
        return maps, nnx.state(model, nnx.BatchStat)

    images = jnp.asarray(rng.standard_normal((2, 32, 24, 3)), jnp.float32)
    canvas = jnp.pad(images, ((0, 0), (0, 16), (0, 32), (0, 0)))
    expected, expected_stats = features(state, images)
    actual, stats = features(state, canvas, jnp.array([[32, 24]] * 2))
    for x, y in zip(actual, expected, strict=True):
        height, width = y.shape[1:3]
        # Batch norm of two pooled values magnifies rounding.
        assert_close(x[:, :height, :width], y, 1e-4)
        assert not x[:, height:].any() and not x[:, :, width:].any()
    for x, y in zip(jax.tree.leaves(stats), jax.tree.leaves(expected_stats), strict=True):
        # The mean of what has just been normalized is zero but for rounding.
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        dict(connectivity="global", dynamic="none", map_size=(2, 2), groups=1),
        dict(connectivity=Global(), dynamic="attention", attention=dict(position_bias="mlp")),
        dict(connectivity="sliding", kernel_size=3, border="clamp", dynamic="attention"),
    ],
)
def test_layers_that_depend_on_the_size_of_the_map(flags):
    layer = LocallyConnected(4, **flags, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="depends on the size of the map"):
        layer(jnp.ones((1, 2, 2, 4)), canvas=Canvas(jnp.array([[1, 1]])))
