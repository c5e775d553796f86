"""Pillow rounds after each axis: its pixels differ by a level or two, a few more at hard edges."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dwconv_jax.data.image import bicubic
from tests.data.photographs import photograph, tensor

SIZES = [(20, 30), (37, 90), (60, 41), (64, 64), (150, 97), (1, 1), (33, 200)]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", SIZES)
def test_resizes_as_pillow_does(size: tuple[int, int], mode: str) -> None:
    image = photograph(mode)
    expected = tensor(image.resize(size[::-1], Image.Resampling.BICUBIC))
    actual = bicubic.resize(tensor(image), list(size))
    assert actual.shape == expected.shape
    difference = np.abs(actual - expected)
    assert difference.mean() < 0.5
    assert difference.max() < 8
    assert np.quantile(difference, 0.99) < 2


@pytest.mark.parametrize("size", SIZES)
def test_has_the_weights_of_tensorflow(size: tuple[int, int]) -> None:
    image = tf.cast(tensor(photograph()), tf.uint8)
    expected = tf.image.resize(image, size, "bicubic", antialias=True)
    actual = bicubic.resize(image, list(size))
    np.testing.assert_allclose(actual, tf.clip_by_value(expected, 0, 255), atol=2e-3)


def test_the_same_size_is_the_same_image() -> None:
    image = tensor(photograph())
    np.testing.assert_array_equal(bicubic.resize(image, [60, 90]), image)
