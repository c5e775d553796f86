"""Assigns to each box the object that it is trained to find (mmdet's max-IoU assigner)."""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.detection.boxes import pairwise_iou

BACKGROUND = -1
IGNORED = -2


def match(
    boxes: jax.Array,
    objects: jax.Array,
    *,
    positive_iou: float,
    negative_iou: float,
    low_quality_iou: float | None = None,
    boxes_valid: jax.Array | None = None,
    objects_valid: jax.Array | None = None,
) -> jax.Array:
    """The object that each box overlaps most, if their IoU is large enough.

    Args:
      boxes: `[N, 4]`.
      objects: `[G, 4]`; `G` may be 0.
      positive_iou: the least IoU of a box with its object.
      negative_iou: a box whose IoUs are all below this is background; between both thresholds it
        is ignored.
      low_quality_iou: every object whose best IoU is at least this also gets the boxes that attain
        it, whatever they had before; if several objects claim a box, the last one gets it. None
        turns this off.
      boxes_valid: bool `[N]`, boxes to match; the others are ignored. None for all.
      objects_valid: bool `[G]`, objects to match; the others do not count. None for all.

    Returns:
      int32 `[N]`: the index of an object, `BACKGROUND` or `IGNORED`.
    """
    everywhere = jnp.ones(len(boxes), bool) if boxes_valid is None else boxes_valid
    if len(objects) == 0:
        return jnp.where(everywhere, BACKGROUND, IGNORED).astype(jnp.int32)
    present = jnp.ones(len(objects), bool) if objects_valid is None else objects_valid
    overlap = jnp.where(present[:, None] & everywhere[None], pairwise_iou(objects, boxes), -1)
    # Compared with its own maxima for equality, so XLA must not compute it twice.
    overlap = jax.lax.optimization_barrier(overlap)

    best = overlap.max(0)
    matched = jnp.where(best < negative_iou, BACKGROUND, IGNORED)
    matched = jnp.where(best >= positive_iou, overlap.argmax(0), matched)
    if low_quality_iou is not None:
        object_best = overlap.max(1, keepdims=True)
        attained = (overlap == object_best) & (object_best >= low_quality_iou)
        index = jnp.arange(len(objects))[:, None]
        matched = jnp.where(attained.any(0), jnp.where(attained, index, -1).max(0), matched)
    return jnp.where(everywhere, matched, IGNORED).astype(jnp.int32)
