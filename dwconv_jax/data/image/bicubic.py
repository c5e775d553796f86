"""Bicubic resizing as in Pillow, fast enough to feed an accelerator.

`tf.image.resize(..., "bicubic", antialias=True)` has the same weights and takes twice as long. Here
each axis is multiplied by a banded matrix, split into small dense products.
"""

import tensorflow as tf

_BLOCK = 8  # output rows of a dense product


def resize(image: tf.Tensor, size: tf.Tensor | list[int]) -> tf.Tensor:
    """Resizes an image, with antialiasing where it shrinks, and clips it to 0..255.

    Pillow rounds after each axis; here nothing is rounded. An image that has the size already is
    returned unchanged, which saves most of the time for small images.

    Args:
      image: `[height, width, channels]` of any real dtype, values in 0..255.
      size: height and width to return.

    Returns:
      float32 `[*size, channels]`.
    """
    size = tf.convert_to_tensor(size)
    return tf.cond(
        tf.reduce_all(tf.shape(image)[:2] == size),
        lambda: tf.cast(image, tf.float32),
        lambda: _resize(image, size),
    )


def _resize(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    rows, columns = tf.unstack(size)
    height, width, channels = tf.unstack(tf.shape(image))
    # Transposing matrices is faster than keeping the channels of a pixel together.
    image = _resize_rows(tf.reshape(image, [height, width * channels]), rows)
    image = tf.reshape(tf.transpose(image), [width, channels * rows])
    image = _resize_rows(image, columns)
    image = tf.transpose(tf.reshape(image, [columns * channels, rows]))
    return tf.reshape(tf.clip_by_value(image, 0, 255), [rows, columns, channels])


def _resize_rows(matrix: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    extent, width = tf.unstack(tf.shape(matrix))
    seen, weights = _bands(extent, length)
    resized = weights @ tf.cast(tf.gather(matrix, seen), tf.float32)
    return tf.reshape(resized, [-1, width])[:length]


def _bands(extent: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Input rows `[N, K]` and their weights `[N, B, K]` for N blocks of B output rows."""
    scale = tf.cast(extent, tf.float32) / tf.cast(length, tf.float32)
    stretch = tf.maximum(scale, 1)  # of the kernel, which extends two pixels in each direction
    num_seen = tf.minimum(tf.cast(tf.math.ceil(_BLOCK * scale + 4 * stretch), tf.int32), extent)
    blocks = tf.range(0, length, _BLOCK)
    begin = tf.cast(tf.cast(blocks, tf.float32) * scale - 2 * stretch, tf.int32)
    seen = tf.clip_by_value(begin, 0, extent - num_seen)[:, None] + tf.range(num_seen)
    # The padding of the last block is dropped later, but must not divide by zero.
    output = tf.minimum(blocks[:, None] + tf.range(_BLOCK), length - 1)
    centers = (tf.cast(output, tf.float32) + 0.5) * scale
    distances = tf.cast(seen, tf.float32)[:, None] + 0.5 - centers[..., None]
    weights = _cubic(tf.abs(distances) / stretch)
    return seen, weights / tf.reduce_sum(weights, 2, keepdims=True)


def _cubic(x: tf.Tensor) -> tf.Tensor:
    """Keys's kernel with a = -1/2, at distances from its center."""
    within_1, within_2 = tf.maximum(1 - x, 0), tf.maximum(2 - x, 0)
    return within_1**2 * (1 - 2 * within_1) + 0.5 * within_2**2 * (within_2 - 1)
