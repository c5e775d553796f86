"""Random erasing in timm's pixel mode (Zhong et al., 2017, arXiv 1708.04896)."""

import math

import tensorflow as tf

_AREA = (0.02, 1 / 3)  # of a box, as a share of the image
_ASPECT = (0.3, 1 / 0.3)
_ATTEMPTS = 10


def random_erasing(image: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Fills a random box with standard normal noise.

    Args:
      image: float32 `[height, width, channels]` of static shape, normalized.
      seed: int64 `[2]`.
      probability: of erasing.

    Returns:
      An image like `image`.
    """
    coin_seed, box_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))

    def erased() -> tf.Tensor:
        top, left, height, width = tf.unstack(_random_box(image.shape, box_seed))
        noise = tf.random.stateless_normal([height, width, image.shape[2]], noise_seed)
        below, right = image.shape[0] - top - height, image.shape[1] - left - width
        margins = [[top, below], [left, right], [0, 0]]
        box = tf.pad(tf.ones([height, width, 1], tf.bool), margins)
        return tf.ensure_shape(tf.where(box, tf.pad(noise, margins), image), image.shape)

    chance = tf.random.stateless_uniform([], coin_seed)
    return tf.cond(chance < probability, erased, lambda: image)


def _random_box(shape: tf.TensorShape, seed: tf.Tensor) -> tf.Tensor:
    """Top, left, height, width; an empty box if no attempt is smaller than the image."""
    chances = tf.random.stateless_uniform([4, _ATTEMPTS], seed)
    area = (_AREA[0] + (_AREA[1] - _AREA[0]) * chances[0]) * (shape[0] * shape[1])
    low, high = map(math.log, _ASPECT)
    aspect = tf.exp(low + (high - low) * chances[1])
    extent = tf.cast(tf.round(tf.sqrt([area * aspect, area / aspect])), tf.int32)
    fits = tf.reduce_all(extent < [[shape[0]], [shape[1]]], 0)
    first = tf.argmax(fits)
    room = tf.cast([[shape[0]], [shape[1]]] - extent + 1, tf.float32)
    begin = tf.cast(chances[2:] * room, tf.int32)
    return tf.where(fits[first], tf.concat([begin[:, first], extent[:, first]], 0), 0)
