"""Greedy non-maximum suppression, exact and with static shapes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_boxes
from dwconv_jax.ops.detection.boxes import areas, intersections
from dwconv_jax.ops.sharding import by_xla

# Boxes decided at once.
_BLOCK = 128
# The start of the next block; indices and boxes of the kept, and their number.
_State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


class Kept(NamedTuple):
    """The boxes that remain, by descending score."""

    indices: jax.Array  # int32 [K], into the boxes
    valid: jax.Array  # bool [K]; where False, the index means nothing


class Detections(NamedTuple):
    """Boxes with a class, by descending score; padded with class -1 and zeros."""

    boxes: jax.Array  # [K, 4]
    scores: jax.Array  # [K]
    classes: jax.Array  # int32 [K]


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    iou_threshold: float,
    max_kept: int,
    *,
    valid: jax.Array | None = None,
    groups: jax.Array | None = None,
) -> Kept:
    """Keeps boxes by descending score, except those that overlap a box kept before.

    Decides blocks of boxes in order, each against the boxes kept so far and then within itself,
    until enough are kept or none is left.

    Args:
      boxes: `[N, 4]`; boxes without area overlap nothing.
      scores: `[N]`; of equal scores, the first wins.
      iou_threshold: boxes overlap if their IoU is larger than this.
      max_kept: `K`.
      valid: bool `[N]`, boxes that may be kept. None for all.
      groups: int `[N]`, non-negative: boxes suppress only boxes of the same group. As in mmcv and
        torchvision, groups are moved apart for this, which in float32 rounds coordinates by up to
        `groups * size / 2**24` pixels. None for a single group.

    Returns:
      The kept boxes, `Kept` of `[K]`.
    """
    check_boxes(boxes)
    if boxes.shape[:-1] != scores.shape or scores.ndim != 1:
        raise ValueError(
            f"boxes must be [N, 4] and scores [N], got shapes {boxes.shape} and {scores.shape}"
        )
    if valid is None:
        valid = jnp.ones(scores.shape, bool)
    if groups is not None:
        boxes = move_apart(boxes, groups, valid)
    order = jnp.argsort(jnp.where(valid, -scores, jnp.inf), stable=True)
    suppress = functools.partial(_suppress, max_kept=max_kept)
    places, kept = by_xla(suppress, boxes[order], valid.sum(), iou_threshold, split=(None,))
    return Kept(order.astype(jnp.int32)[places], kept)


def multiclass_nms(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_kept: int,
    valid: jax.Array | None = None,
) -> Detections:
    """Suppresses within each class, and keeps the best of all classes.

    Args:
      boxes: `[R, K, 4]`, one box per class.
      scores: `[R, K]`.
      score_threshold: discards scores that are not larger.
      iou_threshold: see `nms`.
      max_kept: `D`.
      valid: bool `[R]`, rows that count. None for all.

    Returns:
      `Detections` of `[D]`.
    """
    check_boxes(boxes)
    rows, num_classes = scores.shape
    candidates = scores > score_threshold
    if valid is not None:
        candidates &= valid[:, None]
    classes = jnp.broadcast_to(jnp.arange(num_classes)[None], (rows, num_classes)).reshape(-1)
    boxes, scores, candidates = boxes.reshape(-1, 4), scores.reshape(-1), candidates.reshape(-1)
    indices, kept = nms(boxes, scores, iou_threshold, max_kept, valid=candidates, groups=classes)
    return Detections(
        jnp.where(kept[:, None], boxes[indices], 0),
        jnp.where(kept, scores[indices], 0),
        jnp.where(kept, indices % num_classes, -1),
    )


def move_apart(boxes: jax.Array, groups: jax.Array, valid: jax.Array) -> jax.Array:
    """Moves boxes `[N, 4]` of group `g` (int `[N]`) by `g` times the largest coordinate.

    Boxes of different groups then do not touch. Boxes that are not `valid` become zeros.
    """
    boxes = jnp.where(valid[:, None], boxes, 0)
    return boxes + (groups.astype(boxes.dtype) * (boxes.max(initial=0) + 1))[:, None]


def _suppress(
    boxes: jax.Array, count: jax.Array, threshold: jax.Array, max_kept: int
) -> tuple[jax.Array, jax.Array]:
    """Indices of the kept among the first `count` of sorted boxes `[N, 4]`, and their validity."""
    blocks = -(-len(boxes) // _BLOCK)
    boxes = jnp.pad(boxes, ((0, blocks * _BLOCK - len(boxes)), (0, 0)))

    def unfinished(state: _State) -> jax.Array:
        start, _, _, num_kept = state
        return (start < count) & (num_kept < max_kept)

    def decide(state: _State) -> _State:
        start, places, kept_boxes, num_kept = state
        block = jax.lax.dynamic_slice_in_dim(boxes, start, _BLOCK)
        there = jnp.arange(max_kept + _BLOCK) < num_kept
        free = ~(_overlap(kept_boxes, block, threshold) & there[:, None]).any(0)
        free &= start + jnp.arange(_BLOCK) < count
        keep = _greedy(_overlap(block, block, threshold), free)
        # Kept boxes go to the end of the list, the others out of bounds.
        slot = jnp.where(keep, num_kept + jnp.cumsum(keep) - 1, max_kept + _BLOCK)
        places = places.at[slot].set(start + jnp.arange(_BLOCK), mode="drop")
        kept_boxes = kept_boxes.at[slot].set(block, mode="drop")
        return start + _BLOCK, places, kept_boxes, num_kept + keep.sum()

    places = jnp.zeros(max_kept + _BLOCK, jnp.int32)
    kept_boxes = jnp.zeros((max_kept + _BLOCK, 4), boxes.dtype)
    start = jnp.zeros((), jnp.int32)
    _, places, _, num_kept = jax.lax.while_loop(
        unfinished, decide, (start, places, kept_boxes, start)
    )
    return places[:max_kept], jnp.arange(max_kept) < num_kept


def _overlap(a: jax.Array, b: jax.Array, threshold: jax.Array) -> jax.Array:
    """Whether `a` suppresses `b`, bool `[N, M]`; without a division, as in the CUDA kernels."""
    intersection = intersections(a[:, None], b[None])
    return intersection > threshold * (areas(a)[:, None] + areas(b)[None] - intersection)


def _greedy(overlap: jax.Array, free: jax.Array) -> jax.Array:
    """Which of the sorted, `free` boxes to keep, bool `[N]`, given which overlap, `[N, N]`.

    The greedy choice is the only fixed point of "kept if no earlier kept box overlaps it". Each
    iteration settles at least one more box, in practice many.
    """
    earlier = overlap & jnp.triu(jnp.ones(overlap.shape, bool), 1)

    def refine(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, _ = state
        return free & ~(earlier & keep[:, None]).any(0), keep

    keep, _ = jax.lax.while_loop(
        lambda state: (state[0] != state[1]).any(), refine, refine((free, free))
    )
    return keep
