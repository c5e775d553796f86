"""Swin-MLP against the authors' code, MLP-Mixer against timm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

SWIN = dict(
    embed_dim=8, depths=(2, 2, 1), num_heads=(2, 4, 4), window_size=4, mlp_ratio=2, num_classes=5
)
MIXER = dict(embed_dim=16, depths=(2,), patch_size=8, image_size=(32, 48), num_classes=5)


def test_swin_mlp_is_the_authors():
    check_golden("swin_mlp", lambda: create_model("swin_mlp_tiny_c6", **SWIN, rngs=nnx.Rngs(0)))


def test_mixer_is_timms():
    check_golden("mixer", lambda: create_model("mixer_b16_224", **MIXER, rngs=nnx.Rngs(0)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_mlp_base", "mixer_s32_224"])
def test_full_size_round_trip_is_exact(name):
    weights = random_state_dict(abstract_model(name))
    assert_same(to_torch(load_torch(abstract_model(name), weights)), weights)


def test_swin_mlp_takes_any_size():
    def features():
        model = create_model("swin_mlp_tiny_c6", **SWIN, rngs=nnx.Rngs(0))
        return model.features(jnp.zeros((1, 45, 70, 3)))

    maps = jax.eval_shape(features)
    assert [m.shape[1:3] for m in maps] == [(12, 18), (6, 9), (3, 5)]


def test_initialization():
    @jax.jit
    def initialize():
        mixer = create_model("mixer_s32_224", depths=(1,), num_classes=5, rngs=nnx.Rngs(0))
        options = SWIN | dict(window_size=8)
        swin = create_model("swin_mlp_tiny_c6", **options, rngs=nnx.Rngs(0))
        block, shifted = mixer.stages[0].blocks[0], swin.stages[0].blocks[1].mixer
        kernels = block.mixer.mlp.fc1, block.mlp.fc1, mixer.patch_embed.proj, shifted.mixer.source
        return [layer.kernel[...].std() for layer in kernels], shifted.bias[...]

    deviations, bias = initialize()
    expected = [(2 / (49 + 256)) ** 0.5, (2 / (512 + 2048)) ** 0.5, 3072**-0.5, 0.02]
    np.testing.assert_allclose(deviations, expected, rtol=0.05)
    assert not bias.any()


def test_what_the_originals_lack_is_named():
    with pytest.raises(UserError, match="image_size must be given"):
        abstract_model("mixer_s32_224", **MIXER | dict(image_size=None))
    mixer = dict(connectivity="sliding", dynamic="none")
    with pytest.raises(UserError, match=r"blocks.0: the original has static weights here"):
        to_torch(abstract_model("mixer_s32_224", **MIXER, mixer=mixer))
    with pytest.raises(UserError, match="no squeeze-excitation"):
        to_torch(abstract_model("swin_mlp_base", **SWIN, squeeze_excitation=True))
