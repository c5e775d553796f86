import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from ml_collections import ConfigDict
from sklearn.utils.class_weight import compute_class_weight

from dwconv_jax.errors import UserError
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.tasks.registry import create_task
from dwconv_jax.training import base_config


def sheet_of(images, **mix):
    config = base_config()
    config.dataset.update(mean=(0.5,), std=(0.25,))
    config.mix.update(mix)
    task = object.__new__(Classification)
    task._config = ConfigDict(config)
    return task.draw_training({"image": images, "label": np.zeros(len(images), np.int32)})


def test_the_contact_sheet_shows_grey_images_as_stored():
    levels = np.linspace(0, 255, 100).round().astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (100, 60, 60, 1)) / 255.0
    sheet = sheet_of(((images - 0.5) / 0.25).astype(np.float32))
    assert sheet.shape == (8 * 61 - 1, 8 * 61 - 1, 3)
    centres = sheet[30::61, 30::61]
    np.testing.assert_array_equal(centres.reshape(64, 3), np.repeat(levels[:64, None], 3, 1))


def test_an_evaluation_batch_is_at_most_the_split(config):
    config.eval_batch_size = 100_000_000
    task = create_task(config)
    assert [batch["image"].shape[0] for batch in task.eval_batches()] == [360]  # of 8 devices
    task.dataset.num_eval = 355
    assert task.eval_batch_size == 360
    config.eval_batch_size = 8
    assert create_task(config).eval_batch_size == 8


def test_the_contact_sheet_shows_mixtures():
    signs = np.where(np.arange(64) % 2, 2.0, -2.0).astype(np.float32)  # black beside white
    images = np.broadcast_to(signs[:, None, None, None], (64, 60, 60, 3))
    assert set(np.unique(sheet_of(images, cutmix_alpha=1.0))) == {0, 255}
    tiles = sheet_of(images, mixup_alpha=1.0)[30::61, 30::61, 0]
    assert len(np.unique(tiles)) == 16  # every row has a share of its own, and its complement


def loss_of(config, label, logits):
    """The training loss of a model that answers with the given logits."""
    task = create_task(config)
    batch = {"image": np.zeros((len(label), 2, 2, 1), np.float32), "label": np.array(label)}
    loss, metrics = task.loss(lambda *_, **__: logits, batch, nnx.Rngs(0))
    assert metrics["accuracy"] == (logits.argmax(-1) == np.array(label)).mean()
    return float(loss)


def test_class_weights_multiply_the_losses_of_their_classes(config, rng):
    label, logits = [0, 1, 1, 9], jnp.asarray(rng.normal(size=(4, 10)), jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array(label))
    weights = np.arange(1, 11)
    config.class_weights = tuple(weights.tolist())
    np.testing.assert_allclose(
        loss_of(config, label, logits), (weights[np.array(label)] * losses).mean(), rtol=1e-6
    )


def test_balanced_weights_are_those_of_scikit_learn(config):
    config.class_weights = "balanced"
    task = create_task(config)
    labels = np.concatenate([b["label"] for b in itertools.islice(task.train_batches(0), 3)])
    counts = task.dataset.count_labels()
    assert counts.sum() == 1437 and (np.bincount(labels) <= counts).all()
    every_label = np.repeat(np.arange(10), counts)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=every_label)
    np.testing.assert_allclose(task._class_weights, expected, rtol=1e-6)


def test_class_weights_must_fit_the_classes(config):
    config.class_weights = (1.0, 2.0)
    with pytest.raises(UserError, match=r"config.class_weights=\(1.0, 2.0\) has 2 numbers; "):
        create_task(config)
