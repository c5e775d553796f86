"""The box of a random resized crop, as in timm and torchvision (Szegedy et al., 2015)."""

import math

import tensorflow as tf

_AREA = (0.08, 1.0)  # of the box, as a share of the image
_ASPECT = (3 / 4, 4 / 3)  # width over height
_ATTEMPTS = 10


def random_box(height: tf.Tensor, width: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws area uniformly and aspect log-uniformly, up to ten times until the box fits.

    Args:
      height: of the image, int32 scalar.
      width: of the image, int32 scalar.
      seed: int64 `[2]`.

    Returns:
      int32 `[4]`: top, left, height, width. If no box fits, the largest one of legal aspect in the
      center.
    """
    chances = tf.random.stateless_uniform([4, _ATTEMPTS], seed)
    area = _AREA[0] + (_AREA[1] - _AREA[0]) * chances[0]
    area *= tf.cast(height * width, tf.float32)
    low, high = map(math.log, _ASPECT)
    aspect = tf.exp(low + (high - low) * chances[1])
    extents = tf.cast(tf.round(tf.sqrt([area / aspect, area * aspect])), tf.int32)
    shape = tf.stack([height, width])
    fits = tf.reduce_all((extents > 0) & (extents <= shape[:, None]), 0)
    first = tf.argmax(fits)
    extent = tf.where(fits[first], extents[:, first], _largest(height, width))
    margin = shape - extent
    drawn = tf.cast(chances[2:, first] * tf.cast(margin + 1, tf.float32), tf.int32)
    return tf.concat([tf.where(fits[first], drawn, margin // 2), extent], 0)


def _largest(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Height and width of the largest box of legal aspect."""
    tallest = tf.cast(tf.round(tf.cast(width, tf.float32) / _ASPECT[0]), tf.int32)
    widest = tf.cast(tf.round(tf.cast(height, tf.float32) * _ASPECT[1]), tf.int32)
    return tf.stack([tf.minimum(height, tallest), tf.minimum(width, widest)])
