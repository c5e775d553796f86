"""Boxes: areas, overlaps, clipping, and their encoding as four regression targets.

A box is `(x1, y1, x2, y2)` in pixels; its width is `x2 - x1`, not `x2 - x1 + 1`. Leading axes
broadcast, so that a function serves pairs, `f(a, b)`, and tables, `f(a[:, None], b[None])`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_boxes

# Lower bound of unions and hulls, in square pixels (mmdet).
_MIN_AREA = 1e-6
# Bound of the predicted change of a side, as the logarithm of a factor.
_MAX_LOG_RATIO = abs(math.log(16 / 1000))


def areas(boxes: jax.Array) -> jax.Array:
    """Areas of boxes `[..., 4]` in square pixels: `[...]`."""
    check_boxes(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(a: jax.Array, b: jax.Array) -> jax.Array:
    """Areas of the intersections of boxes `[..., 4]`: `[...]`, 0 where they do not touch."""
    check_boxes(a, "a")
    check_boxes(b, "b")
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    sides = jnp.maximum(sides, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of boxes `[..., 4]`: `[...]`, 0 for boxes without area."""
    intersection = intersections(a, b)
    return intersection / _union(a, b, intersection)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """The IoU of every box `[..., N, 4]` with every box `[..., M, 4]`: `[..., N, M]`."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalized IoU (Rezatofighi et al., 2019) of boxes `[..., 4]`: `[...]`, -1 to 1.

    Subtracts from the IoU the share of the smallest enclosing box that neither box covers. Unlike
    the IoU, it has a gradient where boxes do not touch.
    """
    intersection = intersections(a, b)
    union = _union(a, b, intersection)
    sides = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    sides = jnp.maximum(sides, 0)
    hull = jnp.maximum(sides[..., 0] * sides[..., 1], _MIN_AREA)
    return intersection / union - (hull - union) / hull


def _union(a: jax.Array, b: jax.Array, intersection: jax.Array) -> jax.Array:
    return jnp.maximum(areas(a) + areas(b) - intersection, _MIN_AREA)


def clip(boxes: jax.Array, size: jax.Array) -> jax.Array:
    """Clips boxes to the image.

    Args:
      boxes: `[..., 4]`.
      size: `[..., 2]`, height and width of the image in pixels; also the largest coordinates.

    Returns:
      `[..., 4]`.
    """
    check_boxes(boxes)
    height_width = jnp.asarray(size, boxes.dtype)
    limit = jnp.concatenate([height_width[..., ::-1]] * 2, axis=-1)
    return jnp.clip(boxes, 0, limit.reshape((1,) * (boxes.ndim - limit.ndim) + limit.shape))


@dataclasses.dataclass(frozen=True)
class BoxCoder:
    """Encodes boxes relative to reference boxes: shifts of the center, log ratios of the sides.

    A code is `((dx, dy, dw, dh) - means) / stds` (R-CNN), with `dx` and `dy` in sides of the
    reference box.
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def encode(self, references: jax.Array, boxes: jax.Array) -> jax.Array:
        """The codes `[..., 4]` of boxes `[..., 4]`; not finite where a side is not positive."""
        center, sides = _center_and_sides(references)
        box_center, box_sides = _center_and_sides(boxes)
        shift, log_ratio = (box_center - center) / sides, jnp.log(box_sides / sides)
        deltas = jnp.concatenate([shift, log_ratio], axis=-1)
        return (deltas - self._like(deltas, self.means)) / self._like(deltas, self.stds)

    def decode(self, references: jax.Array, codes: jax.Array) -> jax.Array:
        """The boxes `[..., 4]` of codes `[..., 4]`; sides change by at most a factor of 62.5."""
        check_boxes(codes, "codes")
        center, sides = _center_and_sides(references)
        deltas = codes * self._like(codes, self.stds) + self._like(codes, self.means)
        log_ratio = jnp.clip(deltas[..., 2:], -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        center, half = center + sides * deltas[..., :2], sides * jnp.exp(log_ratio) / 2
        return jnp.concatenate([center - half, center + half], axis=-1)

    @staticmethod
    def _like(x: jax.Array, values: tuple[float, ...]) -> jax.Array:
        return jnp.asarray(values, x.dtype).reshape((1,) * (x.ndim - 1) + (4,))


def _center_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    check_boxes(boxes)
    near, far = boxes[..., :2], boxes[..., 2:]
    return (near + far) / 2, far - near
