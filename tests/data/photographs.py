"""Real photographs, for comparisons with Pillow."""

import functools

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image


@functools.cache
def photograph(mode: str = "RGB", width: int = 90, height: int = 60) -> Image.Image:
    """A temple in front of a bright sky; "L" in grey, "dark" with few levels."""
    image = Image.fromarray(load_sample_image("china.jpg")).resize((width, height))
    if mode == "dark":
        return image.point(lambda level: level // 3 + 20)
    return image.convert(mode)


def tensor(image: Image.Image) -> tf.Tensor:
    """float32 `[height, width, channels]`, 0..255."""
    return tf.constant(np.asarray(image, np.float32).reshape(image.height, image.width, -1))


def assert_same_pixels(actual: tf.Tensor, expected: Image.Image) -> None:
    np.testing.assert_array_equal(actual, tensor(expected))
