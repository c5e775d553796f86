"""Schedules and decay groups of both dense recipes, against the authors' numbers."""

import jax
import numpy as np
import pytest
from flax import nnx

from configs import ade20k, coco
from dwconv_jax.convert.detection import cascade_mask_rcnn
from dwconv_jax.convert.layout import Entry
from dwconv_jax.convert.segmentation import upernet
from dwconv_jax.models import UPerNet, create_model
from dwconv_jax.training.config import validate
from dwconv_jax.training.optimizer import decayed_except_norms
from dwconv_jax.training.schedules import learning_rate_schedule
from tests import golden


@pytest.mark.parametrize(
    ("name", "recipe", "steps_per_epoch"),
    [("seg_schedule", ade20k, 20_210 // 16), ("det_schedule", coco, 7330)],
)
def test_the_rate_at_each_step(name, recipe, steps_per_epoch):
    expected = golden.load(name)
    config = recipe.get_config()
    validate(config)
    schedule = jax.jit(learning_rate_schedule(config, steps_per_epoch))
    rates = [float(schedule(int(step))) for step in expected["step"]]
    np.testing.assert_allclose(rates, expected["lr"], rtol=1e-5)


def abstract_model(name, **overrides):
    return nnx.eval_shape(
        lambda: create_model(name, embed_dim=24, depths=(1, 1, 2, 1), **overrides, rngs=nnx.Rngs(0))
    )


def groups(model):
    """PyTorch's names of the decayed parameters, and of the others."""
    layout = upernet(model) if isinstance(model, UPerNet) else cascade_mask_rcnn(model)
    names = {id(item.variable): item.name for item in layout if isinstance(item, Entry)}
    mask, result = decayed_except_norms(model), {True: set(), False: set()}
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param):
            decayed = mask
            for key in path:
                decayed = decayed[key]
            result[decayed].add(names[id(variable)])
    return result[True], result[False]


@pytest.mark.parametrize(
    ("name", "model"),
    [("seg_schedule", "upernet_dwnet_tiny"), ("det_schedule", "cascade_mask_rcnn_dwnet_tiny")],
)
def test_what_is_decayed(name, model):
    expected = golden.load(name).config["groups"]
    decayed, others = groups(abstract_model(model))
    assert decayed == set(expected["decay"])
    assert others == set(expected["no_decay"])


def test_what_swin_decays():
    """mmseg's rule, word for word: not what has "norm" or "bias_table" in its name."""
    decayed, others = groups(abstract_model("upernet_swin_tiny"))
    exempt = {n for n in decayed | others if "norm" in n or "relative_position_bias_table" in n}
    assert others == exempt
    assert "backbone.layers.0.blocks.0.attn.qkv.bias" in decayed
