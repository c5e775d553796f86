"""Which object each box is trained to find (mmdet's maximum-IoU assigner)."""

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
    """The object that each box overlaps most, if it overlaps it enough.

    Args:
      boxes: `[N, 4]`.
      objects: `[G, 4]`; `G` may be 0.
      positive_iou: from this IoU on a box has its object.
      negative_iou: below it, a box is background; between both it is ignored.
      low_quality_iou: also gives every object whose best IoU is at least this the boxes that
        attain it, whatever they had before; of several objects the last. None does not.
      boxes_valid: bool `[N]`; the other boxes are ignored and seen by no object. None for all.
      objects_valid: bool `[G]`; the other objects are not there. None for all.

    Returns:
      int32 `[N]`: the index of an object, `BACKGROUND` or `IGNORED`.
    """
    everywhere = jnp.ones(len(boxes), bool) if boxes_valid is None else boxes_valid
    if len(objects) == 0:
        return jnp.where(everywhere, BACKGROUND, IGNORED).astype(jnp.int32)
    present = jnp.ones(len(objects), bool) if objects_valid is None else objects_valid
    overlap = jnp.where(present[:, None] & everywhere[None], pairwise_iou(objects, boxes), -1)
    # Compared with its own maxima for equality, so it must be computed once, to the bit.
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
