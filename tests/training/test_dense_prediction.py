"""Schedule and decay groups of the segmentation recipe, against the authors' numbers."""

import jax
import numpy as np
from flax import nnx

from configs import ade20k
from dwconv_jax.convert.layout import Entry
from dwconv_jax.convert.segmentation import upernet
from dwconv_jax.models import create_model
from dwconv_jax.training.config import validate
from dwconv_jax.training.dense_prediction import decayed_except_norms
from dwconv_jax.training.optimizer import learning_rate_schedule
from tests import golden


def test_the_rate_at_each_step():
    expected = golden.load("seg_schedule")
    config = ade20k.get_config()
    validate(config)
    schedule = jax.jit(learning_rate_schedule(config, steps_per_epoch=20_210 // 16))
    rates = [float(schedule(int(step))) for step in expected["step"]]
    np.testing.assert_allclose(rates, expected["lr"], rtol=1e-5)


def abstract_model(name, **overrides):
    return nnx.eval_shape(
        lambda: create_model(name, embed_dim=24, depths=(1, 1, 2, 1), **overrides, rngs=nnx.Rngs(0))
    )


def groups(model):
    """PyTorch's names of the decayed parameters, and of the others."""
    names = {id(item.variable): item.name for item in upernet(model) if isinstance(item, Entry)}
    mask, result = decayed_except_norms(model), {True: set(), False: set()}
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param):
            decayed = mask
            for key in path:
                decayed = decayed[key]
            result[decayed].add(names[id(variable)])
    return result[True], result[False]


def test_what_is_decayed():
    expected = golden.load("seg_schedule").config["groups"]
    decayed, others = groups(abstract_model("upernet_dwnet_tiny"))
    assert decayed == set(expected["decay"])
    assert others == set(expected["no_decay"])


def test_what_swin_decays():
    """mmseg's rule, word for word: not what has "norm" or "bias_table" in its name."""
    decayed, others = groups(abstract_model("upernet_swin_tiny"))
    exempt = {n for n in decayed | others if "norm" in n or "relative_position_bias_table" in n}
    assert others == exempt
    assert "backbone.layers.0.blocks.0.attn.qkv.bias" in decayed
