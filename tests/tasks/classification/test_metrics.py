"""Scores of each class against scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn import metrics as sklearn_metrics

from dwconv_jax.tasks.classification.task import Classification, ClassificationMetrics

NAMES = ("cat", "dog", "emu", "yak")


def metrics_of(label, guess, mask, num_classes=4):
    scores = dict(loss=mask, accuracy=label == guess, top5_accuracy=mask)
    return ClassificationMetrics.single_from_model_output(
        label=label, guess=guess, mask=mask, num_classes=num_classes, **scores
    )


@pytest.fixture
def examples(rng):
    """Labels without class 2, guesses that are often right, and padding."""
    label = rng.choice([0, 1, 1, 3], 64)
    guess = np.where(rng.random(64) < 0.5, label, rng.integers(0, 3, 64))
    return tuple(map(jnp.asarray, (label, guess, (rng.random(64) < 0.8).astype(np.float32))))


def summarize(total):
    task = object.__new__(Classification)
    task.class_names, task.num_classes = NAMES, len(NAMES)
    return task.summarize(total)


def test_scores_are_those_of_scikit_learn(examples):
    total = metrics_of(*(x[:40] for x in examples)).merge(metrics_of(*(x[40:] for x in examples)))
    summary = summarize(total)
    label, guess = (np.asarray(x)[np.asarray(examples[2]) > 0] for x in examples[:2])
    classes = range(len(NAMES))
    expected = sklearn_metrics.precision_recall_fscore_support(
        label, guess, labels=classes, zero_division=np.nan
    )
    names = ("precision", "recall", "f1", "support")
    for name, values in zip(names, expected, strict=True):
        found = [np.nan if entry[name] is None else entry[name] for entry in summary.classes]
        np.testing.assert_allclose(found, values, rtol=1e-6)
    assert [entry["name"] for entry in summary.classes] == list(NAMES)
    confusion = sklearn_metrics.confusion_matrix(label, guess, labels=classes)
    assert summary.confusion_matrix == confusion.tolist()
    recall = np.nanmean(expected[1])
    assert summary.metrics["balanced_accuracy"] == pytest.approx(recall)
    assert "top5_accuracy" not in summary.metrics  # of four classes
    f1 = sklearn_metrics.f1_score(label, guess, average="macro")
    assert summary.metrics["macro_f1"] == pytest.approx(f1)


def test_over_devices(examples):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(examples, NamedSharding(mesh, PartitionSpec("data")))
    assert summarize(jax.jit(metrics_of)(*sharded)) == summarize(metrics_of(*examples))


def test_many_classes_have_scores_but_no_confusion_matrix(examples):
    total = metrics_of(*examples, num_classes=1_001)
    assert total.balanced_accuracy.confusion is None
    assert total.balanced_accuracy.labeled.shape == (1_001,)
