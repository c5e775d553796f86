"""Shearing, translation and rotation as in Pillow's bicubic `Image.transform`.

Images and results are float32 `[height, width, channels]` of static shape, whole numbers in 0..255.
Results are within one gray level of Pillow, which computes in float64. Pixels outside the image
are `fill`, one number per channel.
"""

import math

import tensorflow as tf


def shear_x(image: tf.Tensor, factor: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Moves each row to the left by `factor` times its distance from the top."""
    return _move_rows(image, _centers(image.shape[0]) * tf.cast(factor, tf.float64), fill)


def translate_x(image: tf.Tensor, share: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Moves the image to the left by a share of its width."""
    offset = image.shape[1] * tf.cast(share, tf.float64)
    return _move_rows(image, tf.fill([image.shape[0]], offset), fill)


def shear_y(image: tf.Tensor, factor: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Moves each column up by `factor` times its distance from the left."""
    return _swap_axes(shear_x(_swap_axes(image), factor, fill))


def translate_y(image: tf.Tensor, share: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Moves the image up by a share of its height."""
    return _swap_axes(translate_x(_swap_axes(image), share, fill))


def rotate(image: tf.Tensor, degrees: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Rotates the image counter-clockwise about its center."""
    height, width, _ = image.shape
    angle = tf.cast(degrees, tf.float64) * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = _centers(width) - width / 2, _centers(height)[:, None] - height / 2
    x, y = cos * x - sin * y + width / 2, sin * x + cos * y + height / 2
    columns, column_shares = _taps(x, width)
    rows, row_shares = _taps(y, height)

    def along(row: tf.Tensor) -> tf.Tensor:
        taps = [tf.gather_nd(image, tf.stack([row, column], -1)) for column in columns]
        return _interpolate(taps, column_shares)

    turned = _interpolate([along(row) for row in rows], row_shares)
    return _finish(turned, (x >= 0) & (x < width) & (y >= 0) & (y < height), fill)


def _move_rows(image: tf.Tensor, offsets: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    """Moves each row to the left by `offsets`, float64 `[height]`."""
    width = image.shape[1]
    x = _centers(width) + offsets[:, None]
    columns, shares = _taps(x, width)
    taps = [tf.gather(image, column, axis=1, batch_dims=1) for column in columns]
    moved = _interpolate(taps, shares)
    return _finish(moved, (x >= 0) & (x < width), fill)


def _swap_axes(image: tf.Tensor) -> tf.Tensor:
    return tf.transpose(image, [1, 0, 2])


def _centers(length: int) -> tf.Tensor:
    return tf.range(length, dtype=tf.float64) + 0.5


def _taps(position: tf.Tensor, length: int) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The four pixels around each position, with the border repeated, and the position's share in
    0..1 of the way between the inner two."""
    lower = tf.floor(position - 0.5)
    begin = tf.cast(lower, tf.int32) - 1
    taps = [tf.clip_by_value(begin + i, 0, length - 1) for i in range(4)]
    return taps, tf.cast(position - 0.5 - lower, tf.float32)[..., None]


def _interpolate(taps: list[tf.Tensor], share: tf.Tensor) -> tf.Tensor:
    """Keys's kernel with a = -1, as in Pillow, which uses -1/2 only for resizing.

    Summed as in Pillow, so that the result is exact where all four pixels are equal.
    """
    before, left, right, after = taps
    slope = right - before
    curve = 2 * (before - left) + right - after
    cubic = left - before - right + after
    return left + share * (slope + share * (curve + share * cubic))


def _finish(image: tf.Tensor, inside: tf.Tensor, fill: tf.Tensor) -> tf.Tensor:
    return tf.where(inside[..., None], tf.clip_by_value(tf.floor(image), 0, 255), fill)
