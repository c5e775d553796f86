"""Color jitter as in torchvision's `ColorJitter`: three operations in random order."""

import functools

import tensorflow as tf

from dwconv_jax.data.image import enhance


def color_jitter(image: tf.Tensor, seed: tf.Tensor, amount: float) -> tf.Tensor:
    """Changes brightness, contrast and saturation, each by a factor of 1 - amount to 1 + amount.

    Args:
      image: float32 `[height, width, channels]`, 1 or 3 channels, 0..255.
      seed: int64 `[2]`.
      amount: in 0..1.

    Returns:
      An image like `image`, of whole numbers.
    """
    order_seed, factor_seed = tf.unstack(tf.random.split(seed))
    order = tf.argsort(tf.random.stateless_uniform([3], order_seed))
    factors = tf.random.stateless_uniform([3], factor_seed, 1 - amount, 1 + amount)
    image = tf.round(image)
    for place in range(3):
        operations = (enhance.brightness, enhance.contrast, enhance.color)
        image = tf.switch_case(
            order[place],
            [functools.partial(f, image, factors[i]) for i, f in enumerate(operations)],
        )
    return image
