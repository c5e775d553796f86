"""The same step on one device and on eight, in one batch and in micro-batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dwconv_jax import create_model
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training import base_config
from dwconv_jax.training.mesh import make_mesh, state_sharding, to_devices
from dwconv_jax.training.state import ModelDef, TrainState
from dwconv_jax.training.step import make_eval_step, make_train_step
from tests.numerics import assert_close


@pytest.fixture(scope="module")
def task():
    """The classification task without its data."""
    task = object.__new__(Classification)
    task.num_classes = 5
    task._config = base_config()
    task._config.label_smoothing = 0.1
    return task


@pytest.fixture(scope="module")
def model():
    return create_model(
        "dynamic_dwnet_tiny", embed_dim=64, depths=(1, 1), window_size=3, num_classes=5,
        in_channels=1, patch_size=2, rngs=nnx.Rngs(0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.normal(size=(16, 8, 8, 1)).astype(np.float32),
            "label": rng.integers(0, 5, 16).astype(np.int32),
        }
        for _ in range(2)
    ]


def two_steps(task, model, batches, mesh, accumulation_steps=1):
    # Plain gradient descent: Adam would turn the rounding of vanishing gradients into steps.
    optimizer = optax.sgd(0.05)
    step = make_train_step(
        task,
        ModelDef(model),
        optimizer,
        lambda step: 0.05 + 0 * step,
        seed=0,
        accumulation_steps=accumulation_steps,
    )
    with jax.set_mesh(mesh):
        state = TrainState.create(model, optimizer)
        shardings = state_sharding(mesh, state)
        state = jax.device_put(state, shardings)
        step = jax.jit(step, out_shardings=(shardings, None))
        for batch in batches:
            state, metrics = step(state, to_devices(batch, mesh))
    return state, metrics


@pytest.fixture(scope="module")
def on_one_device(task, model, batches):
    return two_steps(task, model, batches, make_mesh({"data": 1, "fsdp": 1}, jax.devices()[:1]))


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (2, 4)])
def test_eight_devices_agree_with_one(task, model, batches, on_one_device, shape):
    mesh = make_mesh(dict(zip(("data", "fsdp"), shape, strict=True)))
    state, metrics = two_steps(task, model, batches, mesh)
    expected_state, expected_metrics = on_one_device
    for name, value in metrics.items():
        assert_close(value, expected_metrics[name], 1e-5, name)
    for actual, expected in zip(
        jax.tree.leaves((state.params, state.batch_stats)),
        jax.tree.leaves((expected_state.params, expected_state.batch_stats)),
        strict=True,
    ):
        assert np.abs(np.asarray(actual) - np.asarray(expected)).max() < 1e-5
    if shape[1] > 1:
        kernel = state.params["stages"][1]["blocks"][0]["mlp"]["fc1"]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // shape[1]


def test_micro_batches_average_their_gradients(task, batches, on_one_device):
    """Exactly, for a model without batch norm."""
    model = create_model(
        "swin_tiny", embed_dim=8, depths=(1,), num_heads=(2,), window_size=2, num_classes=5,
        in_channels=1, patch_size=2, rngs=nnx.Rngs(0),
    )  # fmt: skip
    mesh = make_mesh({"data": 2, "fsdp": 1}, jax.devices()[:2])
    whole, whole_metrics = two_steps(task, model, batches, mesh)
    cut, cut_metrics = two_steps(task, model, batches, mesh, accumulation_steps=4)
    assert_close(cut_metrics["loss"], whole_metrics["loss"], 1e-5)
    for actual, expected in zip(
        jax.tree.leaves(cut.params), jax.tree.leaves(whole.params), strict=True
    ):
        assert_close(actual, expected, 1e-4)


def test_evaluation_counts_unmasked_examples_only(task, model, batches):
    mesh = make_mesh({"data": 8, "fsdp": 1})
    state = TrainState.create(model, optax.sgd(0.1))
    step = jax.jit(make_eval_step(task, ModelDef(model)))
    whole, _ = step(state, to_devices({**batches[0], "mask": np.ones(16, np.float32)}, mesh))
    parts = None
    for start, count in ((0, 10), (10, 6)):
        padded = {
            name: np.concatenate(
                [v[start : start + count], np.zeros((16 - count, *v.shape[1:]), v.dtype)]
            )
            for name, v in batches[0].items()
        }
        mask = (np.arange(16) < count).astype(np.float32)
        metrics, _ = step(state, to_devices({**padded, "mask": mask}, mesh))
        parts = metrics if parts is None else parts.merge(metrics)
    for name, value in whole.compute().items():
        assert_close(parts.compute()[name], value, 1e-6, name)


class Small(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x, train):
        return self.norm(self.linear(x), use_running_average=not train)


class Regression:
    def loss(self, model, batch, rngs):
        loss = jnp.mean(jnp.square(model(batch["x"], train=True) - batch["y"]))
        return loss, {"root": jnp.sqrt(loss)}

    def evaluate(self, model, batch):
        return None, model(batch["x"], train=False)


@pytest.fixture(scope="module")
def small():
    """A model, its step with averages at a decay of 0.9, its first state, and a batch."""
    model, optimizer = Small(nnx.Rngs(0)), optax.adamw(0.1)
    step = make_train_step(
        Regression(),
        ModelDef(model),
        optimizer,
        lambda step: 0.1 + 0 * step,
        seed=0,
        accumulation_steps=1,
        ema_decay=0.9,
    )
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(8, n)).astype(np.float32) for name, n in (("x", 3), ("y", 4))}
    state = TrainState.create(model, optimizer, averages=True)
    return ModelDef(model), jax.jit(step), jax.jit(step, donate_argnums=0), state, batch


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_batch_that_is_not_finite_changes_nothing(small, value):
    _, step, _, state, batch = small
    state, _ = step(state, batch)
    after, metrics = step(state, batch | {"x": np.where(batch["x"] > 1, value, batch["x"])})
    assert not all(np.isfinite(list(metrics.values())))
    assert (int(after.step), int(after.skipped_steps)) == (2, 1)
    assert_same(after.replace(step=state.step, skipped_steps=state.skipped_steps), state)
    again, metrics = step(after, batch)
    assert (int(again.step), int(again.skipped_steps)) == (3, 1)
    assert all(np.isfinite(list(metrics.values())))
    assert not np.array_equal(again.params["linear"]["kernel"], state.params["linear"]["kernel"])


def test_averages_of_all_weights_are_evaluated(small):
    model, _, step, state, batch = small
    state = jax.tree.map(jnp.copy, state)  # the step takes its memory
    expected = {"params": state.params, "batch_stats": state.batch_stats}
    expected = jax.tree.map(np.array, expected)
    assert_same(state.ema, expected)
    for _ in range(3):
        state, _ = step(state, batch)
        now = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * np.asarray(new), expected, now)
    for name, average in expected["batch_stats"]["norm"].items():
        assert_close(state.ema["batch_stats"]["norm"][name], average, 1e-6, name)
    kernel = expected["params"]["linear"]["kernel"]
    assert_close(state.ema["params"]["linear"]["kernel"], kernel, 1e-6)
    assert np.abs(kernel - state.params["linear"]["kernel"]).max() > 0.1

    _, outputs = make_eval_step(Regression(), model)(state, batch)
    averaged = model.merge(state.ema["params"], state.ema["batch_stats"])
    assert_same(outputs, averaged(batch["x"], train=False))


def test_without_averages_there_are_none(small):
    _, _, _, state, _ = small
    plain = TrainState.create(Small(nnx.Rngs(0)), optax.adamw(0.1))
    weights = jax.tree.leaves((state.params, state.batch_stats))
    assert len(jax.tree.leaves(plain)) == len(jax.tree.leaves(state)) - len(weights)
    assert plain.inference_weights == (plain.params, plain.batch_stats)
