"""Anchors: the regular grid of boxes that a region proposal network refines."""

from collections.abc import Sequence

import jax
import numpy as np

from dwconv_jax.ops.checks import check_boxes


def anchors(
    map_size: tuple[int, int],
    stride: int,
    scale: float = 8.0,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
) -> np.ndarray:
    """The anchors of one level of a feature pyramid.

    All anchors of the cell in row `i` and column `j` are centered on its upper left corner,
    `(j * stride, i * stride)`, and have the area `(scale * stride)**2`.

    Args:
      map_size: height and width of the feature map.
      stride: distance between its positions, in pixels of the image.
      scale: side of a square anchor, in strides.
      ratios: height over width of each anchor of a cell.

    Returns:
      float32 `[H, W, len(ratios), 4]`, boxes in pixels of the image.
    """
    roots = np.sqrt(np.asarray(ratios, np.float64))
    sides = scale * stride * np.stack([1 / roots, roots], axis=-1)
    rows, cols = (np.arange(n) * stride for n in map_size)
    centers = np.stack(np.meshgrid(cols, rows), axis=-1)[:, :, None]
    return np.concatenate([centers - sides / 2, centers + sides / 2], axis=-1).astype(np.float32)


def inside(boxes: jax.Array, size: jax.Array) -> jax.Array:
    """Whether boxes lie inside the image and clear of its far borders, as training requires.

    Args:
      boxes: `[..., 4]`.
      size: height and width in pixels, `[..., 2]`.

    Returns:
      bool `[...]`.
    """
    check_boxes(boxes)
    near = (boxes[..., 0] >= 0) & (boxes[..., 1] >= 0)
    return near & (boxes[..., 2] < size[..., 1]) & (boxes[..., 3] < size[..., 0])
