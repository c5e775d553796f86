"""Training some parameters while the others stay as they are, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dwconv_jax import create_model
from dwconv_jax.aot.operations import count_operations
from dwconv_jax.errors import UserError
from dwconv_jax.training import base_config
from dwconv_jax.training.config import validate
from dwconv_jax.training.optimizer.adamw import make_optimizer
from dwconv_jax.training.optimizer.freezing import freeze
from dwconv_jax.training.state import ModelDef, TrainState, combine, partition
from dwconv_jax.training.step import make_train_step
from tests.training.optimizer.cross_entropy import CrossEntropy


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 8, 8, 1)).astype(np.float32)
    return {"image": images, "label": np.arange(4, dtype=np.int32)}


def fresh_model():
    return create_model(
        "dwnet_tiny", embed_dim=8, depths=(1, 1), window_size=3, num_classes=4, in_channels=1,
        patch_size=2, rngs=nnx.Rngs(0),
    )  # fmt: skip


def make_step(train_only, accumulation_steps=1):
    """A step and its first state, with averages."""
    model, config = fresh_model(), base_config()
    trained = freeze(model, train_only)
    schedule = optax.constant_schedule(1e-2)
    optimizer = make_optimizer(config, schedule, model, trained)
    step = make_train_step(
        CrossEntropy(),
        ModelDef(model, trained),
        optimizer,
        schedule,
        seed=0,
        accumulation_steps=accumulation_steps,
        ema_decay=0.9,
    )
    return jax.jit(step), TrainState.create(model, optimizer, trained=trained, averages=True)


def after_steps(train_only, batch, steps=3, **options):
    step, first = make_step(train_only, **options)
    state = first
    for _ in range(steps):
        state, _ = step(state, batch)
    return first, state


def changed(first, last):
    """Names of the arrays that differ in any bit."""
    paths = jax.tree_util.tree_leaves_with_path(first)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, old), new in zip(paths, jax.tree.leaves(last), strict=True)
        if not np.array_equal(old, new)
    }


def names(tree):
    return changed(tree, jax.tree.map(lambda leaf: leaf + 1, tree))


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_frozen_parameters_and_their_statistics_do_not_move(batch, accumulation_steps):
    first, last = after_steps(("head",), batch, accumulation_steps=accumulation_steps)
    head = {"head/kernel", "head/bias"}
    assert changed(first.params, last.params) == head
    assert changed(first.batch_stats, last.batch_stats) == set()
    assert changed(first.ema["params"], last.ema["params"]) == head
    assert changed(first.ema["batch_stats"], last.ema["batch_stats"]) == set()


def test_statistics_of_trained_norms_move(batch):
    first, last = after_steps((r"stages/1/.*norm",), batch, steps=1)
    moved = changed(first.batch_stats, last.batch_stats)
    assert moved == {name for name in names(first.batch_stats) if name.startswith("stages/1")}
    assert all("stages/1" in name and "norm" in name for name in changed(first.params, last.params))


def test_the_optimizer_remembers_trained_parameters_only(batch):
    _, state = make_step(("head",))
    assert set(optax.tree.get(state.opt_state, "mu")) == {"head"}


def test_gradients_of_frozen_layers_are_not_computed(batch):
    def operations(*train_only):
        step, state = make_step(train_only)
        return count_operations(step.trace(state, batch).jaxpr.jaxpr).matrix

    assert operations("head") < 0.5 * operations()


def test_a_frozen_norm_normalizes_with_running_statistics(batch):
    model, images = fresh_model(), batch["image"]
    freeze(model, ("head",))
    evaluated = model(images, train=False)
    np.testing.assert_array_equal(model(images, train=True), evaluated)


def test_parts_join_to_what_they_were():
    tree = {"a": {0: jnp.ones(2), 1: jnp.zeros(3)}, "b": jnp.ones(())}
    parts = partition(tree, {"a": {0: True, 1: False}, "b": False})
    assert jax.tree.map(jnp.shape, parts) == ({"a": {0: (2,)}}, {"a": {1: (3,)}, "b": ()})
    assert jax.tree.structure(combine(*parts)) == jax.tree.structure(tree)


@pytest.mark.parametrize("value", ["head", ("(",), ("",), (1,)])
def test_patterns_must_be_a_tuple_of_regular_expressions(value):
    config = base_config()
    with config.ignore_type():
        config.train_only = value
    with pytest.raises(UserError, match=r"config.train_only.* must be a tuple of regular"):
        validate(config)
