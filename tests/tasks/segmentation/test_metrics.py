"""Confusion matrices and what is computed from them, against sums over a whole set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax.tasks.segmentation.metrics import IGNORED, confusion_matrix
from dwconv_jax.tasks.segmentation.task import SegmentationMetrics

CLASSES = 4


def metrics_of(labels, predictions):
    confusion = confusion_matrix(labels, predictions, CLASSES)
    return SegmentationMetrics.single_from_model_output(confusion=confusion)


@pytest.fixture
def pixels(rng):
    """Labels without class 2 and with ignored pixels; predictions that often agree."""
    labels = rng.choice([0, 1, 3, IGNORED], (16, 5, 7))
    predictions = np.where(rng.random(labels.shape) < 0.5, labels, rng.integers(0, 4, labels.shape))
    return jnp.asarray(labels), jnp.asarray(predictions % CLASSES)


def expected_metrics(labels, predictions):
    """Section C8, one class at a time."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    valid = labels != IGNORED
    ious, accuracies, right = [], [], 0
    for k in range(CLASSES):
        label, prediction = valid & (labels == k), valid & (predictions == k)
        intersect = (label & prediction).sum()
        right += intersect
        ious.append(intersect / (label | prediction).sum())
        accuracies += [intersect / label.sum()] if label.any() else []
    return {
        "mean_iou": np.mean(ious),
        "mean_accuracy": np.mean(accuracies),
        "pixel_accuracy": right / valid.sum(),
    }


def test_over_batches(pixels):
    labels, predictions = pixels
    total = metrics_of(labels[:3], predictions[:3]).merge(metrics_of(labels[3:], predictions[3:]))
    assert total.compute() == pytest.approx(expected_metrics(labels, predictions))


def test_over_devices(pixels):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    total = jax.jit(metrics_of)(*jax.device_put(pixels, sharding))
    assert total.compute() == pytest.approx(expected_metrics(*pixels))


def test_padding_does_not_count(pixels):
    labels, predictions = pixels
    padded = jnp.pad(labels, ((0, 2), (0, 3), (0, 0)), constant_values=IGNORED)
    guessed = jnp.pad(predictions, ((0, 2), (0, 3), (0, 0)), constant_values=1)
    assert metrics_of(padded, guessed).compute() == metrics_of(labels, predictions).compute()


def test_sums_do_not_overflow():
    confusion = jnp.diag(jnp.full(CLASSES, 2**30, jnp.int32))
    half = SegmentationMetrics.single_from_model_output(confusion=confusion)
    total = half.merge(half).merge(half)
    assert total.mean_iou.confusion.sum() == 3 * CLASSES * 2**30
    assert total.compute()["mean_iou"] == 1


def test_nothing_labelled_is_not_a_number():
    labels = jnp.full((1, 2, 2), IGNORED)
    assert np.isnan(metrics_of(labels, jnp.zeros_like(labels)).compute()["mean_iou"])
