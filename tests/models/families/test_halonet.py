"""HaloNet against timm, its layout and its initialization."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from dwconv_jax.models.classifier import Classifier, ClassifierConfig
from dwconv_jax.models.families import halonet
from tests import golden
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

NAMES = ["halonet26t", "sehalonet33ts"]


@pytest.mark.parametrize("name", NAMES)
def test_golden(name):
    config = golden.load(f"zoo_{name}").config
    letters = dict(bottle="c", self_attn="a")
    blocks = tuple("".join(map(letters.get, stage)) for stage in config["kinds"])
    design = dataclasses.replace(
        halonet.DESIGNS[name],
        blocks=blocks,
        stem_features=config["stem_features"],
        final_features=config["num_features"],
    )
    mixer = halonet.blocked_attention(
        config["num_heads"], config["block_size"], config["halo_size"]
    )
    shape = ClassifierConfig(
        embed_dim=config["widths"],
        depths=tuple(map(len, blocks)),
        num_classes=config["num_classes"],
    )
    family = halonet.family(design)
    check_golden(name, lambda: Classifier(family, mixer, shape, rngs=nnx.Rngs(0)))


def test_blocks_are_of_the_published_kinds():
    for name, kinds in {
        "halonet26t": "cc cc ca aa",
        "sehalonet33ts": "cc cca cca aa",
        "halonet50ts": "ccc ccca cacaca cac",
    }.items():
        model = abstract_model(name, num_heads=1)
        found = [["a" if hasattr(b.spatial, "mixer") else "c" for b in s.blocks]
                 for s in model.stages]  # fmt: skip
        assert " ".join(map("".join, found)) == kinds


def test_other_layers_have_no_layout():
    overrides = dict(embed_dim=(32, 32, 32), depths=(1, 1, 2), num_classes=3)
    model = abstract_model("halonet26t", **overrides, mixer=dict(kernel_size=3))
    with pytest.raises(UserError, match="no PyTorch layout"):
        to_torch(model)


def test_initialization():
    @jax.jit
    def initialize():
        model = create_model(
            "halonet26t", embed_dim=(128, 128, 256), depths=(1, 1, 2), rngs=nnx.Rngs(0)
        )
        block = model.stages[2].blocks[1]
        source = block.spatial.mixer.source
        kernels = block.conv_in.conv.kernel, source.qkv.kernel, source.position_bias.rows[1]
        return [kernel[...].std() for kernel in kernels], block.conv_out.norm.scale[...]

    deviations, scale = initialize()
    np.testing.assert_allclose(deviations, [(2 / 64) ** 0.5, 64**-0.5, 8**-0.5], rtol=0.1)
    assert not np.any(scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_full_size_round_trip_is_exact(name):
    weights = random_state_dict(abstract_model(name))
    assert_same(to_torch(load_torch(abstract_model(name), weights)), weights)
