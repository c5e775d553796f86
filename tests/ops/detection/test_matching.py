"""Matching boxes with objects, and drawing samples of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.ops.detection.matching import BACKGROUND, IGNORED, match
from dwconv_jax.ops.detection.sampling import Sample, sample, to_slots
from tests import golden

matching = jax.jit(match, static_argnames=("positive_iou", "negative_iou", "low_quality_iou"))
RPN = dict(positive_iou=0.7, negative_iou=0.3, low_quality_iou=0.3)


@pytest.fixture(scope="module")
def expected():
    return golden.load("det_components")


def given(expected):
    arrays = expected.under("assign")
    return jnp.asarray(arrays["boxes"]), jnp.asarray(arrays["gt"]).reshape(-1, 4)


def as_reference(matched):
    """mmdet counts objects from 1, its background is 0 and ignored boxes are -1."""
    return np.select([matched == IGNORED, matched == BACKGROUND], [-1, 0], matched + 1)


@pytest.mark.parametrize("name", ["rpn", "s0", "s1", "s2"])
def test_golden(expected, name):
    arrays, settings = expected.under("assign"), expected.config["assign"][name]
    boxes, objects = given(expected)
    thresholds = dict(
        positive_iou=settings["pos_iou_thr"],
        negative_iou=settings["neg_iou_thr"],
        low_quality_iou=settings["min_pos_iou"] if settings["match_low_quality"] else None,
    )
    for present, wanted in ((True, "gt_inds"), (False, "gt_inds_no_gt")):
        there = jnp.full(len(objects), present)
        matched = matching(boxes, objects, **thresholds, objects_valid=there)
        np.testing.assert_array_equal(as_reference(matched), arrays[f"{name}/{wanted}"])
    assert set(match(boxes, objects[:0], **thresholds).tolist()) == {BACKGROUND}


def test_padding_changes_nothing(expected):
    boxes, objects = given(expected)
    alone = matching(boxes[::2], objects[:4], **RPN)
    boxes_valid, objects_valid = jnp.arange(len(boxes)) % 2 == 0, jnp.arange(len(objects)) < 4
    padded = matching(boxes, objects, **RPN, boxes_valid=boxes_valid, objects_valid=objects_valid)
    np.testing.assert_array_equal(padded[::2], alone)
    assert set(padded[1::2].tolist()) == {IGNORED}


def test_low_quality_matches():
    """Both objects overlap the one box best, though little: it goes to the last."""
    boxes = jnp.array([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    objects = jnp.array([[0.0, 0, 4, 10], [6.0, 0, 10, 10]])
    without = match(boxes, objects, positive_iou=0.7, negative_iou=0.3)
    assert without.tolist() == [IGNORED, BACKGROUND]
    assert matching(boxes, objects, **RPN).tolist() == [1, BACKGROUND]
    assert match(boxes, objects, **RPN | dict(low_quality_iou=0.5)).tolist()[0] == IGNORED


draw = jax.jit(sample, static_argnames=("size", "max_positive"))


def drawn(key, matched, size, max_positive):
    return [np.flatnonzero(mask).tolist() for mask in draw(key, matched, size, max_positive)]


def test_all_are_drawn_where_there_are_few():
    matched = jnp.array([BACKGROUND, 2, IGNORED, BACKGROUND, 0, IGNORED])
    assert drawn(jax.random.key(0), matched, 16, 4) == [[1, 4], [0, 3]]


@pytest.mark.parametrize(("num_positive", "counts"), [(100, (8, 24)), (3, (3, 29)), (0, (0, 32))])
def test_shares(num_positive, counts):
    matched = jnp.where(jnp.arange(200) < num_positive, 5, BACKGROUND)
    positive, negative = drawn(jax.random.key(1), matched, 32, 8)
    assert (len(positive), len(negative)) == counts
    assert all(i < num_positive for i in positive) and all(i >= num_positive for i in negative)


def test_the_key_decides():
    matched = jnp.where(jnp.arange(200) < 50, 0, BACKGROUND)
    one, same, other = (drawn(jax.random.key(k), matched, 32, 8) for k in (0, 0, 1))
    assert one == same != other


def test_draws_are_uniform():
    matched = jnp.where(jnp.arange(40) < 20, 0, BACKGROUND)
    keys = jax.random.split(jax.random.key(0), 4000)
    positive, negative = jax.jit(jax.vmap(lambda key: sample(key, matched, 15, 5)))(keys)
    # Chances 1/4 and 1/2, within four standard deviations.
    assert np.abs(positive.mean(0)[:20] - 0.25).max() < 0.028
    assert np.abs(negative.mean(0)[20:] - 0.5).max() < 0.032


def test_slots():
    positive = jnp.array([0, 0, 1, 0, 1, 0], bool)
    negative = jnp.array([0, 1, 0, 0, 0, 1], bool)
    slots = to_slots(Sample(positive, negative), 5)
    assert slots.indices.tolist()[:4] == [2, 4, 1, 5]
    assert slots.positive.tolist() == [True, True, False, False, False]
    assert slots.valid.tolist() == [True] * 4 + [False]
    assert to_slots(Sample(positive, negative), 99).indices.shape == (6,)
