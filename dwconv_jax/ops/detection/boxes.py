"""Boxes: areas, overlaps, clipping, and their code as four regression targets.

A box is `(x1, y1, x2, y2)` in pixels; its width is `x2 - x1`, without a pixel added. Leading axes
broadcast, so that one function serves pairs, `f(a, b)`, and tables, `f(a[:, None], b[None])`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_boxes

# Unions and hulls are at least this large, in square pixels (mmdet).
_MIN_AREA = 1e-6
# The largest change of a side that a prediction can ask for, up and down.
_MAX_LOG_RATIO = abs(math.log(16 / 1000))


def areas(boxes: jax.Array) -> jax.Array:
    """`[..., 4]` to `[...]`, in square pixels."""
    check_boxes(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(a: jax.Array, b: jax.Array) -> jax.Array:
    """Areas that boxes `[..., 4]` have in common, `[...]`; 0 where they do not touch."""
    check_boxes(a, "a")
    check_boxes(b, "b")
    sides = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    sides = jnp.maximum(sides, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of boxes `[..., 4]`, `[...]`; 0 for boxes without area."""
    intersection = intersections(a, b)
    return intersection / _union(a, b, intersection)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """The IoU of every box `[..., N, 4]` with every box `[..., M, 4]`: `[..., N, M]`."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalised IoU (Rezatofighi et al., 2019) of boxes `[..., 4]`: `[...]`, -1 to 1.

    The IoU less the share of the smallest box around both that neither covers, so that it has a
    gradient where boxes do not touch.
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
    """Moves corners into the image.

    Args:
      boxes: `[..., 4]`.
      size: height and width of the image in pixels, `[..., 2]`; corners may lie on the far border.

    Returns:
      `[..., 4]`.
    """
    check_boxes(boxes)
    height_width = jnp.asarray(size, boxes.dtype)
    limit = jnp.concatenate([height_width[..., ::-1]] * 2, axis=-1)
    return jnp.clip(boxes, 0, limit.reshape((1,) * (boxes.ndim - limit.ndim) + limit.shape))


@dataclasses.dataclass(frozen=True)
class BoxCoder:
    """Boxes relative to others: shifts of the centre and logarithms of the sides (R-CNN).

    A code is `((dx, dy, dw, dh) - means) / stds`, with `dx` and `dy` in sides of the reference box.
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def encode(self, references: jax.Array, boxes: jax.Array) -> jax.Array:
        """The code `[..., 4]` of boxes `[..., 4]`; not finite where a side is not positive."""
        centre, sides = _centre_and_sides(references)
        box_centre, box_sides = _centre_and_sides(boxes)
        shift, log_ratio = (box_centre - centre) / sides, jnp.log(box_sides / sides)
        deltas = jnp.concatenate([shift, log_ratio], axis=-1)
        return (deltas - self._like(deltas, self.means)) / self._like(deltas, self.stds)

    def decode(self, references: jax.Array, codes: jax.Array) -> jax.Array:
        """The boxes `[..., 4]` of codes `[..., 4]`; sides change by a factor of 62.5 at most."""
        check_boxes(codes, "codes")
        centre, sides = _centre_and_sides(references)
        deltas = codes * self._like(codes, self.stds) + self._like(codes, self.means)
        log_ratio = jnp.clip(deltas[..., 2:], -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        centre, half = centre + sides * deltas[..., :2], sides * jnp.exp(log_ratio) / 2
        return jnp.concatenate([centre - half, centre + half], axis=-1)

    @staticmethod
    def _like(x: jax.Array, values: tuple[float, ...]) -> jax.Array:
        return jnp.asarray(values, x.dtype).reshape((1,) * (x.ndim - 1) + (4,))


def _centre_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    check_boxes(boxes)
    near, far = boxes[..., :2], boxes[..., 2:]
    return (near + far) / 2, far - near
