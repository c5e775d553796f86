"""Logits of whole pictures: in sliding windows, over scales and mirrored, at any size."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from dwconv_jax.models.upernet import resize

Segmenter = Callable[[jax.Array], jax.Array]


def sliding_logits(
    model: Segmenter, images: jax.Array, crop: tuple[int, int], stride: tuple[int, int]
) -> jax.Array:
    """Mean logits of overlapping windows; the last ones are moved inside the image.

    Args:
      model: `[B, h, w, C]` to logits `[B, h, w, K]`.
      images: `[B, H, W, C]`.
      crop: `(h, w)` of a window; smaller images are one window.
      stride: `(h, w)` between windows.

    Returns:
      float32 `[B, H, W, K]`.
    """
    height, width = images.shape[1:3]
    total, count = jnp.float32(0), jnp.zeros((1, height, width, 1))
    for rows in _spans(height, crop[0], stride[0]):
        for cols in _spans(width, crop[1], stride[1]):
            window = (slice(None), rows, cols)
            logits = model(images[window])
            if total.ndim == 0:
                total = jnp.zeros((*images.shape[:3], logits.shape[-1]))
            total, count = total.at[window].add(logits), count.at[window].add(1)
    return total / count


def _spans(size: int, crop: int, stride: int) -> list[slice]:
    count = max(size - crop + stride - 1, 0) // stride + 1
    stops = [min(i * stride + crop, size) for i in range(count)]
    return [slice(max(stop - crop, 0), stop) for stop in stops]


def mean_probabilities(
    model: Segmenter, images: Sequence[jax.Array], size: tuple[int, int]
) -> jax.Array:
    """Mean over scales, and over mirrored views, of the probabilities at one resolution.

    Args:
      model: `[B, h, w, C]` to logits `[B, h, w, K]`.
      images: the same pictures at each scale, `[B, h, w, C]`.
      size: `(H, W)` at which views are averaged.

    Returns:
      float32 `[B, H, W, K]`.
    """

    def probabilities(view: jax.Array) -> jax.Array:
        return jax.nn.softmax(resize(model(view), size))

    views = [probabilities(x) + probabilities(x[:, :, ::-1])[:, :, ::-1] for x in images]
    return sum(views[1:], views[0]) / (2 * len(views))


def resize_to_sizes(x: jax.Array, sizes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Resizes each image of a batch to a size of its own, bilinear as `resize`.

    Args:
      x: `[B, h, w, K]`.
      sizes: int `[B, 2]`, height and width to resize to, no larger than the canvas.
      canvas: `(H, W)` of the result.

    Returns:
      `[B, H, W, K]`; what lies outside an image's size repeats its border.
    """

    def along(x: jax.Array, size: jax.Array, length: int, axis: int) -> jax.Array:
        n = x.shape[axis]
        source = (jnp.arange(length) + 0.5) * (n / size) - 0.5
        source = jnp.clip(source, 0, n - 1)
        lower = jnp.floor(source).astype(jnp.int32)
        shape = [length if i == axis else 1 for i in range(x.ndim)]
        share = (source - lower).reshape(shape).astype(x.dtype)
        below = jnp.take(x, lower, axis)
        return below + share * (jnp.take(x, jnp.minimum(lower + 1, n - 1), axis) - below)

    def one(x: jax.Array, size: jax.Array) -> jax.Array:
        return along(along(x, size[0], canvas[0], 0), size[1], canvas[1], 1)

    return jax.vmap(one)(x, sizes)
