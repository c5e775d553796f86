"""Two AdamW steps with decay by layer and by group, against the formulas of the paper."""

import re

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from dwconv_jax import create_model
from dwconv_jax.errors import UserError
from dwconv_jax.training import base_config
from dwconv_jax.training.config import validate
from dwconv_jax.training.optimizer.adamw import make_optimizer
from dwconv_jax.training.optimizer.freezing import freeze
from dwconv_jax.training.optimizer.layer_decay import learning_rate_scales
from dwconv_jax.training.optimizer.patterns import path_name
from dwconv_jax.training.state import take_apart
from tests.numerics import assert_close

# The layer of each parameter of a model with one block in its first stage and two in its second.
LAYERS = {
    "patch_embed/": 0,
    "stages/0/blocks/0/": 1,
    "stages/0/merge/": 1,
    "stages/1/blocks/0/": 2,
    "stages/1/blocks/1/": 3,
    "norm/": 4,
    "head/": 4,
    "output_norms/": 4,
}


def abstract_model(name):
    return nnx.eval_shape(
        lambda: create_model(
            name, embed_dim=8, depths=(1, 2), num_heads=1, window_size=3, rngs=nnx.Rngs(0)
        )
    )


def by_name(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def layer_of(name):
    (layer,) = (layer for prefix, layer in LAYERS.items() if name.startswith(prefix))
    return layer


def test_layers_of_a_classifier():
    scales = by_name(learning_rate_scales(abstract_model("swin_tiny"), 0.5))
    assert scales == {name: 0.5 ** (4 - layer_of(name)) for name in scales}


def test_heads_of_dense_prediction_are_the_last_layer():
    model = nnx.eval_shape(
        lambda: create_model("upernet_swin_tiny", embed_dim=24, num_heads=1, rngs=nnx.Rngs(0))
    )
    scales = by_name(learning_rate_scales(model, 0.5))
    assert scales["backbone/patch_embed/proj/kernel"] == 0.5**13  # 2 + 2 + 6 + 2 blocks
    assert scales["backbone/stages/3/blocks/1/mlp/fc1/kernel"] == 0.5
    assert scales["backbone/output_norms/0/scale"] == 1
    assert {s for name, s in scales.items() if not name.startswith("backbone/")} == {1.0}


def test_two_steps_by_hand():
    model, config, rate = abstract_model("swin_tiny"), base_config(), 0.1
    config.optimizer.update(
        layer_decay=0.7, weight_decay=0.3, clip_norm=np.inf, b1=0.8, b2=0.9, eps=1e-3,
        weight_decay_groups=(("head/bias", 0.2), ("blocks/1/mlp", 0.0), ("mlp/fc1", 0.9)),
    )  # fmt: skip

    def decay_of(name):
        if name == "head/bias":
            return 0.2
        if "blocks/1/mlp" in name:
            return 0.0
        if "mlp/fc1" in name:
            return 0.9
        return 0.3 if name.endswith("/kernel") else 0.0

    optimizer = make_optimizer(config, optax.constant_schedule(rate), model, freeze(model, ()))
    rng = np.random.default_rng(0)
    shapes, _ = take_apart(model)

    def draw():
        return jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), shapes)

    params, gradients = draw(), [draw(), draw()]
    updated, state = params, optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, updated)
        updated = optax.apply_updates(updated, updates)

    gradients = [by_name(gradient) for gradient in gradients]
    for name, param in by_name(params).items():
        expected, first, second = param.astype(np.float64), 0.0, 0.0
        for t, gradient in enumerate((g[name] for g in gradients), start=1):
            first = 0.8 * first + 0.2 * gradient
            second = 0.9 * second + 0.1 * gradient**2
            direction = first / (1 - 0.8**t) / (np.sqrt(second / (1 - 0.9**t)) + 1e-3)
            share = rate * 0.7 ** (4 - layer_of(name))
            expected = expected - share * (direction + decay_of(name) * expected)
        assert_close(by_name(updated)[name], expected, 1e-5, name)


def test_frozen_parameters_have_no_rate():
    """The optimizer takes and returns the trained ones."""
    model, config = abstract_model("swin_tiny"), base_config()
    config.optimizer.layer_decay = 0.5
    optimizer = make_optimizer(
        config, optax.constant_schedule(0.1), model, freeze(model, ("head",))
    )
    head = {"head": take_apart(model)[0]["head"]}
    zeros = jax.tree.map(lambda p: np.zeros(p.shape, np.float32), head)
    updates, _ = optimizer.update(zeros, optimizer.init(zeros), zeros)
    assert jax.tree.structure(updates) == jax.tree.structure(head)


def test_a_model_without_stages_is_refused():
    with pytest.raises(UserError, match=r"optimizer.layer_decay=0.5 needs a model with stages"):
        learning_rate_scales(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), 0.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_decay", 0.0),
        ("layer_decay", 1.1),
        ("weight_decay_groups", (("head", -1.0),)),
        ("weight_decay_groups", ("head",)),
        ("weight_decay_groups", (("(", 0.0),)),
    ],
)
def test_illegal_values_are_named(field, value):
    config = base_config()
    config.optimizer[field] = value
    with pytest.raises(UserError, match=rf"config\.optimizer\.{field}={re.escape(repr(value))}"):
        validate(config)
