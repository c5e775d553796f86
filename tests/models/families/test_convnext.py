"""ConvNeXt and ConvNeXt V2 against timm, their layouts, and what sizes they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.models import create_model
from dwconv_jax.models.families.convnext import ResponseNorm
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

TINY = dict(embed_dim=8, depths=(1, 1, 2, 1), num_classes=5)


@pytest.mark.parametrize("name", ["convnext", "convnextv2"])
def test_golden(name):
    check_golden(name, lambda: create_model(f"{name}_tiny", **TINY, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_tiny", "convnextv2_atto"])
def test_the_authors_layout(name):
    model = load_torch(abstract_model(name, **TINY), random_weights(name, **TINY))
    official = to_torch(model, layout="official")
    assert official["downsample_layers.1.1.weight"].shape == (16, 8, 2, 2)
    assert official["stages.2.1.pwconv1.weight"].shape == (128, 32)
    assert official["norm.weight"].shape == (64,) and official["head.weight"].shape == (5, 64)
    if name != "convnext_tiny":
        assert official["stages.0.0.grn.gamma"].shape == (1, 1, 1, 32)
    assert_same(to_torch(load_torch(abstract_model(name, **TINY), official)), to_torch(model))


def test_small_models_have_convolutions_in_their_mlps_in_timm():
    shape = random_weights("convnext_atto", **TINY)["stages.0.blocks.0.mlp.fc1.weight"].shape
    assert shape == (32, 8, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_base"])
def test_full_size_round_trip_is_exact(name):
    weights = random_weights(name)
    assert_same(to_torch(load_torch(abstract_model(name), weights)), weights)


def random_weights(name, **overrides):
    return random_state_dict(abstract_model(name, **overrides))


def test_initialization():
    @jax.jit
    def initialize():
        model = create_model("convnext_atto", embed_dim=(64, 64), depths=(1, 1), rngs=nnx.Rngs(0))
        (block,) = model.stages[1].blocks
        kernels = model.patch_embed.proj, block.mixer.source, block.mlp.fc2, model.head
        biases = model.patch_embed.proj, block.mixer, block.mlp.fc2, model.head
        return (
            [layer.kernel[...].std() for layer in kernels],
            [layer.bias[...] for layer in biases],
            block.layer_scale[...],
        )

    deviations, biases, scale = initialize()
    np.testing.assert_allclose(deviations, 0.02, rtol=0.05)
    assert not any(map(np.any, biases))
    np.testing.assert_array_equal(scale, np.float32(1e-6))


def test_maps_leave_out_what_fills_no_patch():
    def features():
        model = create_model("convnextv2_atto", **TINY, rngs=nnx.Rngs(0))
        return model.features(jnp.zeros((1, 7, 70, 3)))

    maps = jax.eval_shape(features)
    assert [m.shape[1:3] for m in maps] == [(1, 17), (1, 8), (1, 4), (1, 2)]


def test_response_norm_counts_what_the_canvas_counts(rng):
    layer = ResponseNorm(6, jnp.float32)
    layer.scale.set_value(jnp.array(rng.normal(size=6), jnp.float32))
    x = jnp.array(rng.normal(size=(2, 5, 4, 6)), jnp.float32)

    @jax.jit
    def apply(x):
        return layer(x, Canvas(jnp.array([[5, 4], [3, 2]]))), layer(x[1:, :3, :2])

    actual, expected = apply(x)
    np.testing.assert_allclose(actual[1, :3, :2], expected[0], rtol=1e-5)


def test_response_norm_of_zeros_has_finite_gradients():
    layer = ResponseNorm(2, jnp.float32)
    layer.scale.set_value(jnp.ones(2))
    x = jnp.array([[[[0, 1], [0, 2]]]], jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: layer(x).sum()))(x)
    assert np.isfinite(gradient).all()


def test_other_mixers_and_gates():
    mixer = dict(connectivity="window", kernel_size=4, dynamic="attention", num_heads=2)
    options = TINY | dict(mixer=mixer)

    def apply():
        model = create_model("convnext_atto", **options, squeeze_excitation=True, rngs=nnx.Rngs(0))
        return model(jnp.zeros((1, 32, 32, 3)))

    assert jax.eval_shape(apply).shape == (1, 5)
    with pytest.raises(UserError, match="no squeeze-excitation"):
        to_torch(abstract_model("convnext_atto", **TINY, squeeze_excitation=True))
    with pytest.raises(UserError, match=r"stages.0.blocks.0.conv_dw: .* dynamic='attention'"):
        to_torch(abstract_model("convnext_atto", **options))
