"""Swin V2 against timm, its layouts and its initialization."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from tests import golden
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

TINY = dict(embed_dim=4, depths=(1, 2), num_heads=1, num_classes=3)


def test_golden():
    config = golden.load("zoo_swin_v2").config
    attention = tuple(
        dict(position_bias="mlp", cosine=True, qkv_bias="qv", pretrained_window=window or None)
        for window in config.pop("pretrained_window")
    )
    mixer = dict(
        connectivity="window",
        dynamic="attention",
        num_heads=config.pop("num_heads"),
        attention=attention,
    )
    check_golden(
        "swin_v2",
        lambda: create_model("swinv2_tiny_window8_256", mixer=mixer, **config, rngs=nnx.Rngs(0)),
    )


def test_the_authors_layout():
    model = abstract_model("swinv2_tiny_window16_256", **TINY)
    weights = random_state_dict(model)
    load_torch(model, weights)
    official = to_torch(model, 256, layout="official")
    first = "layers.0.blocks.0.attn"
    assert official["layers.0.downsample.norm.weight"].shape == (8,)
    assert official["head.weight"].shape == (3, 8)
    assert official["layers.1.blocks.1.attn_mask"].shape == (4, 256, 256)
    assert official[f"{first}.relative_coords_table"].shape == (1, 31, 31, 2)
    index = official[f"{first}.relative_position_index"]
    assert index.shape == (256, 256) and index[0, :2].tolist() == [15 * 31 + 15, 15 * 31 + 14]
    assert_same(to_torch(load_torch(nnx.clone(model), official)), weights)


def test_windows_of_checkpoints_are_no_larger_than_their_maps():
    model = abstract_model("swinv2_tiny_window16_256", **TINY)
    load_torch(model, random_state_dict(model))
    official = to_torch(model, 64, layout="official")  # maps of 16x16 and 8x8
    assert not any(name.endswith("attn_mask") for name in official)
    table = official["layers.1.blocks.0.attn.relative_coords_table"]
    assert table.shape == (1, 15, 15, 2) and table.max() == np.float32(np.log2(9) / 3)


@pytest.mark.parametrize(
    "mixer",
    [
        dict(connectivity="window", groups=1),
        dict(connectivity="window", groups=1, dynamic="attention"),
        dict(groups=1, dynamic="attention", attention=dict(position_bias="mlp", cosine=True)),
    ],
)
def test_other_layers_have_no_layout(mixer):
    model = abstract_model("swinv2_tiny_window8_256", **TINY | dict(num_heads=None), mixer=mixer)
    with pytest.raises(UserError, match=r"layers\.0\.blocks\.0\.attn: .* no PyTorch layout"):
        to_torch(model)


def test_initialization():
    @jax.jit
    def initialize():
        model = create_model("swinv2_tiny_window8_256", **TINY, rngs=nnx.Rngs(0))
        block = model.stages[1].blocks[0]
        return (
            [block.norm_mixer.scale[...], block.norm_mlp.scale[...]],
            block.mixer.source.logit_scale[...],
            block.mixer.source.position_bias.fc2.kernel[...].std(),
        )

    scales, logit_scale, deviation = initialize()
    assert not np.any(scales)
    np.testing.assert_allclose(logit_scale, np.log(10), rtol=1e-6)
    np.testing.assert_allclose(deviation, 0.02, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["timm", "official"])
def test_full_size_round_trip_is_exact(layout):
    model = abstract_model("swinv2_tiny_window8_256")
    weights = random_state_dict(model)
    written = to_torch(load_torch(model, weights), 256, layout)
    again = load_torch(abstract_model("swinv2_tiny_window8_256"), written)
    assert_same(to_torch(again), weights)
