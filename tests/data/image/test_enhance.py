"""Every operation gives Pillow's pixels, bit for bit."""

import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from dwconv_jax.data.image import enhance
from tests.data.photographs import assert_same_pixels, photograph, tensor

MODES = ("RGB", "L", "dark")


@pytest.mark.parametrize("mode", MODES)
def test_invert(mode: str) -> None:
    image = photograph(mode)
    assert_same_pixels(enhance.invert(tensor(image)), ImageOps.invert(image))


@pytest.mark.parametrize("mode", MODES)
def test_auto_contrast(mode: str) -> None:
    image = photograph(mode)
    assert_same_pixels(enhance.auto_contrast(tensor(image)), ImageOps.autocontrast(image))


@pytest.mark.parametrize("mode", MODES)
def test_equalize(mode: str) -> None:
    image = photograph(mode)
    assert_same_pixels(enhance.equalize(tensor(image)), ImageOps.equalize(image))


def test_equalize_of_few_pixels() -> None:
    image = photograph("RGB", 17, 16)  # a step of one pixel, where tables run past white
    assert_same_pixels(enhance.equalize(tensor(image)), ImageOps.equalize(image))


@pytest.mark.parametrize("level", [0, 77, 255])
def test_one_colour_stays_as_it_is(level: int) -> None:
    image = Image.new("RGB", (20, 20), (level, 3, 255 - level))
    for operation in enhance.auto_contrast, enhance.equalize:
        assert_same_pixels(operation(tensor(image)), image)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_posterize(bits: int) -> None:
    image = photograph()
    actual = enhance.posterize(tensor(image), tf.constant(bits))
    assert_same_pixels(actual, ImageOps.posterize(image, bits))


def test_posterize_to_nothing_is_black() -> None:
    assert not tf.reduce_any(enhance.posterize(tensor(photograph()), tf.constant(0)) > 0)


@pytest.mark.parametrize("threshold", [0, 26, 128, 256])
def test_solarize(threshold: int) -> None:
    image = photograph()
    actual = enhance.solarize(tensor(image), tf.constant(threshold, tf.float32))
    assert_same_pixels(actual, ImageOps.solarize(image, threshold))


@pytest.mark.parametrize("amount", [0, 99, 110])
def test_solarize_add(amount: int) -> None:
    image = photograph()
    expected = image.point([level + amount if level < 128 else level for level in range(256)] * 3)
    actual = enhance.solarize_add(tensor(image), tf.constant(amount, tf.float32))
    assert_same_pixels(actual, expected)


@pytest.mark.parametrize("factor", [0.0, 0.19, 0.73, 1.0, 1.37, 1.9])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["Brightness", "Contrast", "Color", "Sharpness"])
def test_blends(name: str, mode: str, factor: float) -> None:
    image = photograph(mode)
    operation = getattr(enhance, name.lower())
    expected = getattr(ImageEnhance, name)(image).enhance(factor)
    assert_same_pixels(operation(tensor(image), tf.constant(factor, tf.float32)), expected)
