"""AdamW steps and decayed parameters against the authors' PyTorch code."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.models import create_model
from dwconv_jax.models.torch_layout import Buffer, Entry
from dwconv_jax.training import base_config
from dwconv_jax.training.optimizer.adamw import make_optimizer
from dwconv_jax.training.optimizer.weight_decay import decayed, decayed_except_norms
from dwconv_jax.training.state import ModelDef, TrainState
from dwconv_jax.training.step import make_train_step
from tests import golden
from tests.golden import assert_golden, sample
from tests.numerics import assert_close
from tests.training.optimizer.cross_entropy import CrossEntropy

# ---- Five steps.


@pytest.fixture(scope="module")
def adamw():
    return golden.load("optim_adamw")


@pytest.fixture(scope="module")
def model(adamw):
    config = adamw.config["model"]
    overrides = {name: config[name] for name in ("embed_dim", "depths", "num_classes")}
    model = nnx.eval_shape(lambda: create_model("dwnet_tiny", rngs=nnx.Rngs(0), **overrides))
    return load_torch(model, adamw.under("param"))


def five_steps(model, adamw, clip_norm):
    """The state and the metrics after each step."""
    config = base_config()
    config.optimizer.weight_decay = adamw.config["weight_decay"]
    config.optimizer.clip_norm = clip_norm
    schedule = optax.constant_schedule(adamw.config["lr"])
    definition = ModelDef(model)
    optimizer = make_optimizer(config, schedule, model, definition.trained)
    step = make_train_step(
        CrossEntropy(), definition, optimizer, schedule, seed=0, accumulation_steps=1
    )
    step = jax.jit(step)
    state, history = TrainState.create(model, optimizer), []
    for images, labels in zip(adamw["inputs"], adamw["labels"], strict=True):
        batch = {"image": jnp.asarray(images.transpose(0, 2, 3, 1)), "label": jnp.asarray(labels)}
        state, metrics = step(state, batch)
        history.append((state, metrics))
    return history


def in_torch_layout(model, *parts):
    """Parts of a state under PyTorch's names, in its shapes."""
    holder = nnx.clone(model)
    for part in parts:
        nnx.update(holder, nnx.State(part))
    return to_torch(holder)


def assert_within(actual, expected, absolute, skip=()):
    for name, array in expected.items():
        if name not in skip and not name.endswith("num_batches_tracked"):
            assert np.abs(sample(actual[name]) - array).max() < absolute, name


@pytest.fixture(scope="module")
def clipped(model, adamw):
    return five_steps(model, adamw, adamw.config["clip_grad_norm"])


def assert_losses_and_norms(history, expected):
    for name, metric in [("losses", "loss"), ("grad_norms", "grad_norm")]:
        values = np.array([metrics[metric] for _, metrics in history])
        assert_close(values, expected[name], 1e-4, name)


def test_losses_and_gradient_norms_of_five_steps(clipped, adamw):
    assert_losses_and_norms(clipped, adamw.arrays)


def test_parameters_and_statistics_after_each_step(model, clipped, adamw):
    for i, (state, _) in enumerate(clipped, start=1):
        actual = in_torch_layout(model, state.params, state.batch_stats)
        assert_within(actual, adamw.under(f"step{i}"), 5e-5, skip=adamw.config["noisy"])


def test_moments_after_five_steps(model, clipped, adamw):
    state, _ = clipped[-1]
    first, second = (optax.tree.get(state.opt_state, name) for name in ("mu", "nu"))
    assert_golden(in_torch_layout(model, first), adamw.under("adam_m"), 1e-4)
    # Squares of gradients have twice their error.
    assert_golden(in_torch_layout(model, second), adamw.under("adam_v"), 2e-4)


def test_five_steps_without_clipping(model, adamw):
    history = five_steps(model, adamw, clip_norm=1e9)
    assert_losses_and_norms(history, adamw.under("noclip"))
    state, _ = history[-1]
    actual = in_torch_layout(model, state.params, state.batch_stats)
    assert_within(actual, adamw.under("noclip/step5"), 5e-5)


# ---- The published models' tensors.

INVENTORY = golden.load("model_inventory").config


@pytest.fixture(scope="module", params=INVENTORY)
def published(request):
    name = f"{request.param}_tiny"
    model = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0)))
    return INVENTORY[request.param], model


def test_names_and_shapes_are_the_published_ones(published):
    inventory, model = published
    shapes = {
        item.name: list(item.value.shape if isinstance(item, Buffer) else item.shape)
        for item in model.torch_layout(224)
    }
    assert shapes == inventory["shapes"] | inventory["buffers"]


def test_weight_decay_shrinks_the_published_parameters(published):
    inventory, model = published
    entries = {item.name: item for item in model.torch_layout(224) if not isinstance(item, Buffer)}
    flags = decayed(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    by_path = {
        jax.tree_util.keystr(path, simple=True, separator="/"): flag
        for path, flag in jax.tree_util.tree_leaves_with_path(flags)
    }
    paths = {id(node): "/".join(map(str, path)) for path, node in nnx.iter_graph(model)}
    decay = {
        name
        for name, entry in entries.items()
        if isinstance(entry.variable, nnx.Param) and by_path[paths[id(entry.variable)]]
    }
    assert decay == set(inventory["decay"])
    assert len(by_path) == len(inventory["decay"]) + len(inventory["no_decay"])


def test_networks_of_positions_do_not_decay():
    model = abstract_model("swinv2_tiny_window8_256", num_heads=1)
    flags = decayed(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    mixer = flags["stages"][0]["blocks"][0]["mixer"]
    assert mixer["source"]["qkv"]["kernel"] and mixer["proj"]["kernel"]
    assert not any(jax.tree.leaves(mixer["source"]["position_bias"]))


# ---- Decay in dense prediction.


def abstract_model(name, **overrides):
    return nnx.eval_shape(
        lambda: create_model(name, embed_dim=24, depths=(1, 1, 2, 1), **overrides, rngs=nnx.Rngs(0))
    )


def groups(model):
    """PyTorch's names of the decayed parameters, and of the others."""
    entries = [item for item in model.torch_layout() if isinstance(item, Entry)]
    names = {id(item.variable): item.name for item in entries}
    mask, result = decayed_except_norms(model), {True: set(), False: set()}
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param):
            flag = mask
            for key in path:
                flag = flag[key]
            result[flag].add(names[id(variable)])
    return result[True], result[False]


@pytest.mark.parametrize(
    ("name", "model"),
    [("seg_schedule", "upernet_dwnet_tiny"), ("det_schedule", "cascade_mask_rcnn_dwnet_tiny")],
)
def test_what_is_decayed(name, model):
    expected = golden.load(name).config["groups"]
    shrunk, others = groups(abstract_model(model))
    assert shrunk == set(expected["decay"])
    assert others == set(expected["no_decay"])


def test_what_swin_decays():
    """mmseg's rule, word for word: not what has "norm" or "bias_table" in its name."""
    shrunk, others = groups(abstract_model("upernet_swin_tiny"))
    exempt = {n for n in shrunk | others if "norm" in n or "relative_position_bias_table" in n}
    assert others == exempt
    assert "backbone.layers.0.blocks.0.attn.qkv.bias" in shrunk
