"""Proposals: thousands of anchors on several levels against the loop that defines suppression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.models.detection.rpn import Level, propose
from tests.ops.detection.test_nms import crowd, greedy


def level(rng, logits, valid=True):
    """Anchors that are proposed as they are."""
    count = len(logits)
    return Level(
        logits=jnp.asarray(logits[None], jnp.float32),
        codes=jnp.zeros((1, count, 4)),
        anchors=jnp.asarray(crowd(rng, count)),
        valid=jnp.full((1, count), valid),
    )


def test_thousands_of_proposals(rng):
    """Of each level the best 2,500 compete among themselves; the places of a third do not count."""
    first, second, third = np.split(rng.permutation(np.linspace(-3, 3, 5550)), (4000, 5500))
    levels = [level(rng, first), level(rng, second), level(rng, third, valid=False)]
    found = jax.jit(functools.partial(propose, candidates=2500, max_proposals=4000))(
        levels, jnp.array([[400, 400]])
    )
    boxes, scores = [], []
    for anchors, logits in ((np.asarray(x.anchors), np.asarray(x.logits[0])) for x in levels[:2]):
        best = np.argsort(-logits, kind="stable")[:2500]
        kept = best[greedy(anchors[best], logits[best], 0.7)]
        boxes.append(anchors[kept])
        scores.append(logits[kept])
    order = np.argsort(-np.concatenate(scores), kind="stable")
    count = len(order)
    assert 3000 < count < 4000
    np.testing.assert_array_equal(found.valid[0], np.arange(4000) < count)
    np.testing.assert_array_equal(found.boxes[0, :count], np.concatenate(boxes)[order])
    assert not np.asarray(found.boxes[0, count:]).any()
