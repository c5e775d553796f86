"""NAT and DiNAT against the authors' code, and transformers' layout."""

import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.models import create_model
from tests.convert.released import abstract_model, assert_same, random_state_dict
from tests.models.families.golden import check_golden

TINY = dict(
    embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8), window_size=3, mlp_ratio=2.0,
    num_classes=5,
)  # fmt: skip
DILATED = dict(
    connectivity="sliding", border="clamp", dynamic="attention", num_heads=(1, 2, 4, 8), dilation=2
)


def test_nat():
    check_golden("nat", lambda: create_model("nat_mini", **TINY, rngs=nnx.Rngs(0)))


def test_dinat():
    """With layer scale; the second block of the second stage is dilated."""
    options = {key: value for key, value in TINY.items() if key != "num_heads"}
    check_golden(
        "dinat", lambda: create_model("dinat_base", mixer=DILATED, **options, rngs=nnx.Rngs(0))
    )


@pytest.mark.parametrize("name", ["nat_mini", "dinat_base"])
def test_the_layout_of_transformers(name):
    model = load_torch(
        abstract_model(name, **TINY), random_state_dict(abstract_model(name, **TINY))
    )
    theirs = to_torch(model, layout="transformers")
    model_name, _ = name.split("_")
    block = f"{model_name}.encoder.levels.1.layers.1"
    assert theirs[f"{block}.attention.self.key.weight"].shape == (16, 16)
    assert theirs[f"{block}.attention.self.rpb"].shape == (2, 5, 5)
    assert (f"{block}.layer_scale_parameters" in theirs) == (name == "dinat_base")
    assert theirs[f"{model_name}.layernorm.weight"].shape == (64,)
    assert_same(to_torch(load_torch(abstract_model(name, **TINY), theirs)), to_torch(model))
