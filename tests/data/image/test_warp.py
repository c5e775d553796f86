"""Pillow computes in float64 and truncates: a few pixels in a thousand differ, by one level."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dwconv_jax.data.image import warp
from tests.data.photographs import assert_same_pixels, photograph, tensor

FILL = (124, 116, 104)
AMOUNTS = (0.0, 0.27, -0.31, 0.0811, 1.0)
BICUBIC = Image.Resampling.BICUBIC


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    transform, fill = Image.Transform.AFFINE, FILL if image.mode == "RGB" else FILL[0]
    return image.transform(image.size, transform, matrix, BICUBIC, fillcolor=fill)


def check(
    operation: Callable[..., tf.Tensor],
    amount: float,
    expected: Callable[[Image.Image, float], Image.Image],
    mode: str = "RGB",
) -> None:
    image = photograph(mode)
    amount = np.float32(amount)
    fill = tf.constant(FILL if mode == "RGB" else FILL[:1], tf.float32)
    actual = operation(tensor(image), tf.constant(amount), fill).numpy()
    difference = np.abs(actual - tensor(expected(image, float(amount))))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005
    if amount == 0:
        assert_same_pixels(actual, image)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("amount", AMOUNTS)
def test_shear_x(amount: float, mode: str) -> None:
    check(warp.shear_x, amount, lambda image, a: affine(image, 1, a, 0, 0, 1, 0), mode)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_shear_y(amount: float) -> None:
    check(warp.shear_y, amount, lambda image, a: affine(image, 1, 0, 0, a, 1, 0))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_translate_x(amount: float) -> None:
    check(warp.translate_x, amount, lambda i, a: affine(i, 1, 0, a * i.width, 0, 1, 0))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_translate_y(amount: float) -> None:
    check(warp.translate_y, amount, lambda i, a: affine(i, 1, 0, 0, 0, 1, a * i.height))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("degrees", [0.0, 27.3, -30.0, 4.4, 180.0])
def test_rotate(degrees: float, mode: str) -> None:
    def expected(image: Image.Image, angle: float) -> Image.Image:
        fill = FILL if image.mode == "RGB" else FILL[0]
        return image.rotate(angle, BICUBIC, fillcolor=fill)

    check(warp.rotate, degrees, expected, mode)
