"""Operations on colors from Pillow's ImageOps and ImageEnhance, bit for bit.

Images and results are float32 `[height, width, channels]` with 1 or 3 channels and whole numbers in
0..255.
"""

import tensorflow as tf


def invert(image: tf.Tensor) -> tf.Tensor:
    """Inverts all levels."""
    return 255 - image


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the highest `bits` of the 8 bits."""
    step = tf.cast(tf.bitwise.left_shift(1, 8 - bits), tf.float32)
    return tf.floor(image / step) * step


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the levels at or above the threshold."""
    return tf.where(image < threshold, image, 255 - image)


def solarize_add(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Adds `amount` to the levels below 128 (timm)."""
    return tf.where(image < 128, image + amount, image)


def auto_contrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255."""
    image = tf.cast(image, tf.float64)  # like Pillow, for levels that fall on whole numbers
    low, high = tf.reduce_min(image, [0, 1]), tf.reduce_max(image, [0, 1])
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    return tf.cast(_to_levels(image * scale + offset), tf.float32)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Equalizes the histogram of each channel."""
    channels = image.shape[-1]
    levels = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    ones = tf.ones(image.shape, tf.int32)
    histogram = tf.math.unsorted_segment_sum(ones, levels, 256 * channels)
    histogram = tf.reshape(histogram, [channels, 256])
    darker = tf.cumsum(histogram, axis=1, exclusive=True)
    # Pixels below the channel's highest level, divided into 255 steps.
    step = tf.reduce_max(tf.where(histogram > 0, darker, 0), 1, keepdims=True) // 255
    table = tf.minimum((step // 2 + darker) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))
    return tf.gather(tf.reshape(tf.cast(table, tf.float32), [-1]), levels)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with black: a factor of 0 gives black, 1 the image, and more than 1 brightens it."""
    return _to_levels(factor * image)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the mean gray level."""
    mean = tf.reduce_mean(tf.cast(_luma(image), tf.float64))
    return _blend(tf.cast(tf.floor(mean + 0.5), tf.float32), image, factor)


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the image in gray."""
    return _blend(_luma(image), image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with a smoothed image, except at the border."""
    rows = image[:-2] + image[1:-1] + image[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    core = image[1:-1, 1:-1]
    smoothed = tf.floor((box + 4 * core) / 13 + 0.5)
    change = tf.pad(smoothed - core, [[1, 1], [1, 1], [0, 0]])
    return _blend(image + change, image, factor)


def _luma(image: tf.Tensor) -> tf.Tensor:
    """The image in gray, one channel (ITU-R 601 in Pillow's fixed point)."""
    if image.shape[-1] == 1:
        return image
    weighted = tf.linalg.matvec(image, tf.constant([19595, 38470, 7471], tf.float32))
    return tf.floor((weighted + 32768) / 65536)[..., None]


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _to_levels(degenerate + factor * (image - degenerate))


def _to_levels(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(tf.floor(image), 0, 255)
