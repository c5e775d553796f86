"""The same step on one device and on eight, in one batch and in micro-batches."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from dwconv_jax import create_model
from dwconv_jax.tasks.classification import Classification
from dwconv_jax.training import base_config
from dwconv_jax.training.mesh import make_mesh, state_sharding, to_devices
from dwconv_jax.training.state import ModelDef, initial_state
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
        state = initial_state(model, optimizer)
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
    state = initial_state(model, optax.sgd(0.1))
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
