"""HaloNet against timm."""

import dataclasses

import pytest
from flax import nnx

from dwconv_jax.models.classifier import Classifier, ClassifierConfig
from dwconv_jax.models.families import halonet
from tests import golden
from tests.models.families.golden import check_golden


@pytest.mark.parametrize("name", ["halonet26t", "sehalonet33ts"])
def test_halonets_are_timms(name):
    config = golden.load(f"zoo_{name}").config
    blocks = tuple(
        "".join({"bottle": "c", "self_attn": "a"}[kind] for kind in stage)
        for stage in config["kinds"]
    )
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
        embed_dim=config["widths"], depths=[len(b) for b in blocks], num_classes=5
    )
    family = halonet.family(design)
    check_golden(name, lambda: Classifier(family, mixer, shape, rngs=nnx.Rngs(0)))
