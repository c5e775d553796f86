"""Suppression against the authors' numbers and against the loop that defines it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.ops.detection.nms import multiclass_nms, nms
from tests import golden

suppress = jax.jit(nms, static_argnames="max_kept")


@pytest.fixture(scope="module")
def expected():
    return golden.load("det_components")


def kept(result):
    return np.asarray(result.indices)[np.asarray(result.valid)].tolist()


@pytest.mark.parametrize("case", range(3))
def test_golden(expected, case):
    arrays = expected.under(f"nms/case{case}")
    threshold = float(arrays["iou_threshold"][0])
    boxes, scores = jnp.asarray(arrays["boxes"]), jnp.asarray(arrays["scores"])
    assert kept(suppress(boxes, scores, threshold, 120)) == arrays["keep"].tolist()
    grouped = suppress(boxes, scores, threshold, 120, groups=jnp.asarray(arrays["ids"]))
    assert kept(grouped) == arrays["batched_keep"].tolist()


def test_multiclass_golden(expected):
    arrays, settings = expected.under("multiclass_nms"), expected.config["multiclass_nms"]
    found = multiclass_nms(
        jnp.asarray(arrays["boxes"]).reshape(40, 4, 4),
        jnp.asarray(arrays["scores"]).reshape(40, 5)[:, :4],  # the last is the background
        score_threshold=settings["score_thr"],
        iou_threshold=settings["iou_threshold"],
        max_kept=settings["max_num"],
    )
    dets = arrays["dets"].reshape(-1, 5)
    np.testing.assert_allclose(found.boxes, dets[:, :4], rtol=1e-5)
    np.testing.assert_allclose(found.scores, dets[:, 4], rtol=1e-5)
    np.testing.assert_array_equal(found.classes, arrays["labels"])


def greedy(boxes, scores, threshold):
    """The definition, one box at a time."""
    taken = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in np.argsort(-scores, kind="stable"):
        near = np.maximum(boxes[i, :2], boxes[taken, :2])
        sides = np.maximum(np.minimum(boxes[i, 2:], boxes[taken, 2:]) - near, 0)
        common = sides[:, 0] * sides[:, 1]
        if not (common > np.float32(threshold) * (area[i] + area[taken] - common)).any():
            taken.append(int(i))
    return taken


def crowd(rng, count):
    """Boxes with whole corners, whose areas float32 holds exactly; some are empty."""
    near, side = rng.integers(0, 300, (count, 2)), rng.integers(0, 60, (count, 2))
    return np.concatenate([near, near + side], -1).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_thousands_of_boxes(rng, threshold):
    boxes = crowd(rng, 3000)
    scores = rng.integers(0, 500, 3000).astype(np.float32)  # many are equal
    assert kept(suppress(boxes, scores, threshold, 3000)) == greedy(boxes, scores, threshold)


def test_the_best_of_many(rng):
    boxes, scores = crowd(rng, 3000), rng.random(3000, np.float32)
    assert kept(suppress(boxes, scores, 0.5, 40)) == greedy(boxes, scores, 0.5)[:40]


def test_what_is_not_valid_suppresses_nothing(rng):
    boxes, scores = crowd(rng, 300), rng.random(300, np.float32)
    valid = rng.random(300) < 0.5
    where = np.flatnonzero(valid)
    boxes[~valid] = np.nan
    expected = where[greedy(boxes[where], scores[where], 0.5)].tolist()
    assert kept(suppress(boxes, scores, 0.5, 300, valid=valid)) == expected
    groups = np.zeros(300, np.int32)
    assert kept(suppress(boxes, scores, 0.5, 300, valid=valid, groups=groups)) == expected


def test_a_batch_of_images(rng):
    boxes, scores = crowd(rng, 400).reshape(2, 200, 4), rng.random((2, 200), np.float32)
    batched = jax.vmap(functools.partial(nms, iou_threshold=0.5, max_kept=200))
    result = jax.jit(batched)(boxes, scores)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], result)
        assert kept(one) == greedy(boxes[i], scores[i], 0.5)


def test_no_box_and_boxes_without_area():
    nothing = suppress(jnp.zeros((4, 4)), jnp.ones(4), 0.5, 6, valid=jnp.zeros(4, bool))
    assert nothing.valid.tolist() == [False] * 6
    points = jnp.full((4, 4), 7.0)
    assert kept(suppress(points, jnp.array([1.0, 3, 2, 0]), 0.5, 6)) == [1, 2, 0, 3]


def test_no_detection():
    found = multiclass_nms(
        jnp.ones((3, 2, 4)), jnp.zeros((3, 2)), score_threshold=0.05, iou_threshold=0.5, max_kept=4
    )
    assert found.classes.tolist() == [-1] * 4
    assert float(jnp.abs(found.boxes).sum() + found.scores.sum()) == 0


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"boxes must be \[N, 4\] and scores \[N\], got .*\(5,\)"):
        nms(jnp.zeros((4, 4)), jnp.zeros(5), 0.5, 3)
