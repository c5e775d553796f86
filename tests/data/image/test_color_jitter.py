import itertools

import numpy as np
import tensorflow as tf
from PIL import ImageEnhance

from dwconv_jax.data.image import enhance
from dwconv_jax.data.image.color_jitter import color_jitter
from tests.data.photographs import photograph, tensor

NAMES = ("Brightness", "Contrast", "Color")


def test_factors_and_orders_are_those_of_torchvision() -> None:
    """Recovers what was drawn: some order of Pillow's operations must give the same pixels."""
    image, seen = photograph("RGB", 24, 24), set()
    factors = []
    for seed in range(30):
        _, factor_seed = tf.unstack(tf.random.split(tf.constant([0, seed], tf.int64)))
        drawn = tf.random.stateless_uniform([3], factor_seed, 0.6, 1.4).numpy()
        factors.append(drawn)
        actual = color_jitter(tensor(image), tf.constant([0, seed], tf.int64), 0.4)
        matches = []
        for order in itertools.permutations(range(3)):
            expected = image
            for i in order:
                expected = getattr(ImageEnhance, NAMES[i])(expected).enhance(float(drawn[i]))
            if np.array_equal(actual, tensor(expected)):
                matches.append(order)
        assert matches
        seen.update(matches)
    assert len(seen) == 6
    assert 0.6 <= np.min(factors) < 0.65 < 1.35 < np.max(factors) <= 1.4


def test_nothing_changes_without_an_amount() -> None:
    image = tensor(photograph())
    np.testing.assert_array_equal(color_jitter(image, tf.constant([0, 1], tf.int64), 0.0), image)
    assert enhance.color(image[..., :1], tf.constant(0.3)).shape[-1] == 1  # grey has no colour
