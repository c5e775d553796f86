"""Object masks: the targets of a mask head, and its output pasted into the image."""

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.ops.detection.boxes import clip
from dwconv_jax.ops.detection.roi_weights import box_weights
from dwconv_jax.ops.sharding import by_image

# Pixels of unpacked masks held at once.
_MAX_PIXELS = 2**24


def mask_targets(
    masks: jax.Array, indices: jax.Array, boxes: jax.Array, sizes: jax.Array, resolution: int = 28
) -> jax.Array:
    """The masks of objects inside boxes: RoIAlign of the bitmaps, thresholded at 0.5.

    Args:
      masks: uint8 `[B, N, H, W / 8]`, the rows of each bitmap packed by `np.packbits`.
      indices: int `[B, R]`, the object of each box.
      boxes: `[B, R, 4]` in pixels of the image, to which they are clipped.
      sizes: int `[B, 2]`, height and width of each image without its padding.
      resolution: side `M` of the result.

    Returns:
      float32 `[B, R, M, M]`, 0 or 1.
    """
    height, width = masks.shape[2], masks.shape[3] * 8

    def of_image(masks: jax.Array, indices: jax.Array, rows: jax.Array, cols: jax.Array):
        def of_box(given: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            index, row_weights, col_weights = given
            bits = jnp.unpackbits(masks[index], axis=-1).astype(jnp.float32)
            return row_weights @ bits @ col_weights.T

        batch_size = max(1, _MAX_PIXELS // (height * width))
        return jax.lax.map(of_box, (indices, rows, cols), batch_size=batch_size)

    def of_images(
        masks: jax.Array, indices: jax.Array, boxes: jax.Array, sizes: jax.Array
    ) -> jax.Array:
        boxes = clip(boxes, sizes[:, None])
        rows, cols = box_weights(boxes, sizes, (height, width), resolution)
        share = jax.vmap(of_image)(masks, indices, rows, cols)
        return (share >= 0.5).astype(jnp.float32)

    return by_image(of_images, masks, indices, boxes, sizes)


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float = 0.5
) -> np.ndarray:
    """Pastes masks of boxes into the whole image, on the host, since images differ in size.

    Interpolates between the centers of the mask's cells; pixels outside the box are 0 (mmdet).

    Args:
      masks: `[D, M, M]`, probabilities.
      boxes: `[D, 4]`, in pixels of the image.
      size: height and width of the image.
      threshold: the least probability of a pixel in the mask.

    Returns:
      bool `[D, height, width]`.
    """
    pasted = np.zeros((len(masks), *size), bool)
    for i, (mask, box) in enumerate(zip(np.asarray(masks), np.asarray(boxes), strict=True)):
        rows = _paste_weights(box[1], box[3], size[0], mask.shape[0])
        cols = _paste_weights(box[0], box[2], size[1], mask.shape[1])
        top_bottom, left_right = _span(rows), _span(cols)
        part = rows[top_bottom] @ mask @ cols[left_right].T
        pasted[i, top_bottom, left_right] = part >= threshold
    return pasted


def _span(weights: np.ndarray) -> slice:
    """The pixels that the mask covers."""
    reached = np.flatnonzero(weights.any(axis=1))
    return slice(reached[0], reached[-1] + 1) if len(reached) else slice(0, 0)


def _paste_weights(low: float, high: float, length: int, cells: int) -> np.ndarray:
    """The weight of each cell in each pixel: float32 `[length, cells]`."""
    pixel = np.arange(length, dtype=np.float32) + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (pixel - low) / (high - low) * cells - 0.5
    # A box without width shows the middle of its mask, as in the reference.
    place = np.where(np.isfinite(place), place, cells / 2 - 0.5)
    distance = np.abs(place[:, None] - np.arange(cells, dtype=np.float32))
    return np.maximum(1 - distance, 0).astype(np.float32)
