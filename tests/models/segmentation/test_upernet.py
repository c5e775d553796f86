"""UPerNet and its backbone: sizes, any input, what padding does, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.layers.pooling import adaptive_mean
from dwconv_jax.models import TASK_VARIANTS, BackboneConfig, DenseBackbone
from dwconv_jax.models.families import swin
from dwconv_jax.models.segmentation.upernet import PixelClassifier, resize
from tests.models.drawn import drawn

# Written out rather than read from the table.
EXPECTED = {
    "upernet_dwnet_tiny": 55_826_252,
    "upernet_dwnet_base": 107_858_604,
    "upernet_dynamic_dwnet_tiny": 82_785_260,
    "upernet_dynamic_dwnet_base": 195_109_420,
    "upernet_i_dynamic_dwnet_tiny": 57_897_788,
    "upernet_i_dynamic_dwnet_base": 113_765_100,
    "upernet_swin_tiny": 59_941_862,
    "upernet_swin_small": 81_259_766,
    "upernet_swin_base": 121_279_716,
}
TINY = dict(embed_dim=8, depths=(1, 1, 2, 1), head_features=8, auxiliary_features=8)


def drawn_model(name, **overrides):
    return drawn(lambda: dwconv_jax.create_model(name, **TINY, **overrides, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("name", EXPECTED)
def test_parameters(name):
    model = nnx.eval_shape(lambda: dwconv_jax.create_model(name, rngs=nnx.Rngs(0)))
    num_params = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert num_params == EXPECTED[name] == TASK_VARIANTS[name].num_params


def test_every_variant_of_a_paper_is_listed():
    listed = {name for name in dwconv_jax.list_models() if name.startswith("upernet_")}
    assert {name for name in listed if TASK_VARIANTS[name].num_params} == set(EXPECTED)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("dwnet_tiny", {}),
        ("dynamic_dwnet_tiny", {}),
        ("i_dynamic_dwnet_tiny", dict(channels_per_group=(2, 4, 8, 16))),
        ("swin_tiny", dict(num_heads=(1, 2, 4, 8))),
    ],
)
def test_any_input_size(name, overrides):
    graph, state = nnx.split(drawn_model(f"upernet_{name}", num_classes=5, **overrides))

    @jax.jit
    def apply(state, images):
        merged = nnx.merge(graph, state)
        return merged(images), merged.features(images), merged.head_logits(images)

    logits, maps, (fine, coarse) = apply(state, jnp.ones((2, 50, 37, 3)))
    assert (logits.shape, logits.dtype) == ((2, 50, 37, 5), jnp.float32)
    assert [m.shape[1:] for m in maps] == [(13, 10, 8), (7, 5, 16), (4, 3, 32), (2, 2, 64)]
    assert (fine.shape[1:3], coarse.shape[1:3]) == ((13, 10), (4, 3))
    assert bool(jnp.isfinite(logits).all())


def swin_backbone(window_size):
    return DenseBackbone(
        swin.FAMILY,
        dict(connectivity="window", dynamic="attention", groups=2),
        BackboneConfig(embed_dim=8, depths=(2,), window_size=window_size),
        rngs=nnx.Rngs(0),
    )


def test_swin_sees_its_padding_as_zeros():
    """Swin's detector: one window of 7 holds the map and zeros, and the second block shifts it."""
    backbone = swin_backbone(7)
    images = jax.random.normal(jax.random.key(0), (1, 20, 20, 3))  # a map of 5x5
    (actual,) = backbone.features(images)

    x = backbone.patch_embed(images)
    for block in backbone.stages[0].blocks:
        padded = jnp.pad(block.norm_mixer(x), ((0, 0), (0, 2), (0, 2), (0, 0)))
        x = x + block.mixer(padded)[:, :5, :5]
        x = x + block.mlp(block.norm_mlp(x))
    np.testing.assert_allclose(actual, backbone.output_norms[0](x), rtol=1e-5, atol=1e-5)

    first, second = (block.mixer for block in backbone.stages[0].blocks)
    assert first.connectivity.shift == (0, 0)
    assert not second.connectivity.shrink
    assert second.connectivity.shift == (3, 3)


def test_output_norms_do_not_reach_the_next_stage():
    graph, state = nnx.split(drawn_model("upernet_dwnet_tiny", num_classes=2))
    features = jax.jit(lambda state: nnx.merge(graph, state).features(jnp.ones((1, 32, 32, 3))))
    before = features(state)
    state["backbone"]["output_norms"][0]["bias"][...] += 1
    after = features(state)
    np.testing.assert_allclose(after[0], before[0] + 1, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(after[1], before[1])


def test_dropout_drops_whole_channels():
    classifier = PixelClassifier(64, 2, 0.5, rngs=nnx.Rngs(0))
    y = classifier.dropout(jnp.ones((4, 3, 3, 64)), deterministic=False, rngs=nnx.Rngs(1))
    y = y.reshape(4, 9, 64)
    assert bool((y.min(1) == y.max(1)).all())
    assert set(y.reshape(-1).tolist()) == {0.0, 2.0}


def test_resize_is_linear_between_pixel_centres():
    x = jnp.arange(4.0).reshape(1, 1, 4, 1)
    expected = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    np.testing.assert_allclose(resize(x, (1, 8))[0, 0, :, 0], expected)
    np.testing.assert_allclose(resize(x, (1, 2))[0, 0, :, 0], [0.5, 2.5])  # no antialiasing


def test_pooled_regions_overlap():
    x = jnp.arange(5.0).reshape(1, 5, 1, 1)
    np.testing.assert_allclose(adaptive_mean(x, 3)[0, :, 0, 0], [0.5, 2, 3.5])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(num_classes=0), "num_classes must be an int >= 1, got 0"),
        (dict(head_feature=3), "unknown override 'head_feature'; did you mean 'head_features'"),
        (dict(pad_to_window=False), "unknown override 'pad_to_window'"),
        (dict(num_heads=3), "num_heads=3 does not go with 'upernet_dwnet_tiny'"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        dwconv_jax.create_model("upernet_dwnet_tiny", **overrides, rngs=nnx.Rngs(0))


def test_a_backbone_of_two_stages_is_refused():
    with pytest.raises(UserError, match=r"at least 3 stages, got depths=\(1, 1\)"):
        dwconv_jax.create_model("upernet_dwnet_tiny", depths=(1, 1), rngs=nnx.Rngs(0))
