"""Augmentation of images with label maps, as in mmseg.

Images are float32 `[height, width, 3]` in 0..255, whole numbers until they are normalized; label
maps are uint8 `[height, width]`, 255 for pixels of no class. Random choices depend on a stateless
seed (int64 `[2]`) and on nothing else. OpenCV resizes in fixed point and converts to 8-bit HSV;
here both are float32, so that pixels differ from mmseg's by about one gray level.
"""

import tensorflow as tf

from dwconv_jax.data.segmentation.label_map import IGNORED

_CROP_ATTEMPTS = 10


def keep_ratio(size: tf.Tensor, longest: tf.Tensor | int, shortest: tf.Tensor | int) -> tf.Tensor:
    """The largest size, int32 `[2]`, of the same aspect within a longest and a shortest side.

    Sides are at least 1, however elongated the image.
    """
    size = tf.cast(size, tf.float64)
    factor = tf.minimum(
        tf.cast(longest, tf.float64) / tf.reduce_max(size),
        tf.cast(shortest, tf.float64) / tf.reduce_min(size),
    )
    return tf.maximum(tf.cast(size * factor + 0.5, tf.int32), 1)


def resize_image(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes bilinearly between pixel centers, without antialiasing, to whole gray levels."""
    return tf.round(tf.image.resize(image, size))


def resize_labels(labels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes to nearest neighbors, rounding down like OpenCV."""
    return tf.raw_ops.ResizeNearestNeighbor(images=labels[None, ..., None], size=size)[0, ..., 0]


def random_resize(
    image: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    scale: tuple[int, int],
    scale_range: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes to fit `scale`, a longest and a shortest side, times a random factor."""
    factor = tf.random.stateless_uniform([], seed, *scale_range)
    longest, shortest = (tf.cast(side * factor, tf.int32) for side in scale)
    size = keep_ratio(tf.shape(labels), longest, shortest)
    return resize_image(image, size), resize_labels(labels, size)


def random_crop(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, size: int, max_class_share: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Crops to at most `size`; draws up to ten more crops while a class has too large a share."""
    shape = tf.shape(labels)
    extent = tf.minimum(shape, size)

    def draw(attempt: tf.Tensor) -> tf.Tensor:
        offset = tf.random.stateless_uniform(
            [2], tf.random.fold_in(seed, attempt), dtype=tf.float64
        )
        return tf.cast(offset * tf.cast(shape - extent + 1, tf.float64), tf.int32)

    def is_varied(begin: tf.Tensor) -> tf.Tensor:
        crop = tf.slice(labels, begin, extent)
        counts = tf.math.bincount(tf.cast(crop, tf.int32), minlength=256, maxlength=256)[:IGNORED]
        limit = max_class_share * tf.cast(tf.reduce_sum(counts), tf.float64)
        return tf.cast(tf.reduce_max(counts), tf.float64) < limit

    attempt = tf.constant(0)
    if max_class_share < 1:
        attempt = tf.while_loop(
            lambda i: (i < _CROP_ATTEMPTS) & ~is_varied(draw(i)), lambda i: i + 1, [attempt]
        )[0]
    begin = draw(attempt)
    image = tf.slice(image, [*tf.unstack(begin), 0], [*tf.unstack(extent), 3])
    return image, tf.slice(labels, begin, extent)


def random_flip(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Flips the image and its labels, left to right, with probability 1/2."""
    return tf.cond(
        tf.random.stateless_uniform([], seed) < 0.5,
        lambda: (image[:, ::-1], labels[:, ::-1]),
        lambda: (image, labels),
    )


def photometric_distortion(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue, each with probability 1/2."""
    coins = tf.random.stateless_uniform([5], tf.random.fold_in(seed, 0)) < 0.5
    amounts = tf.random.stateless_uniform([4], tf.random.fold_in(seed, 1))
    contrast_first = coins[4]

    def within(image: tf.Tensor) -> tf.Tensor:
        return tf.floor(tf.clip_by_value(image, 0, 255))

    contrasted = coins[1]
    image = tf.where(coins[0], within(image + (64 * amounts[0] - 32)), image)
    contrast = 0.5 + amounts[1]
    image = tf.where(contrasted & contrast_first, within(image * contrast), image)
    saturation = tf.where(coins[2], 0.5 + amounts[2], 1.0)
    hue = tf.where(coins[3], (tf.floor(36 * amounts[3]) - 18) / 180, 0.0)
    image = _shift_hsv(image, hue, saturation)
    return tf.where(contrasted & ~contrast_first, within(image * contrast), image)


def _shift_hsv(image: tf.Tensor, hue: tf.Tensor, saturation: tf.Tensor) -> tf.Tensor:
    h, s, v = tf.unstack(tf.image.rgb_to_hsv(image / 255), axis=-1)
    hsv = tf.stack([tf.math.floormod(h + hue, 1.0), tf.minimum(s * saturation, 1), v], -1)
    return tf.round(tf.image.hsv_to_rgb(hsv) * 255)


def pad(image: tf.Tensor, labels: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads to a square at the right and bottom: images with 0, label maps with 255."""
    bottom, right = tf.unstack(size - tf.shape(labels))
    image = tf.pad(image, [[0, bottom], [0, right], [0, 0]])
    labels = tf.pad(labels, [[0, bottom], [0, right]], constant_values=IGNORED)
    return tf.ensure_shape(image, [size, size, 3]), tf.ensure_shape(labels, [size, size])
