import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dwconv_jax.data.classification import augment


def photo(width: int, height: int, channels: int = 3) -> Image.Image:
    """A smooth image, which JPEG and resampling can represent."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return image if channels == 3 else image.convert("L")


def encode(image: Image.Image, file_format: str) -> tf.Tensor:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return tf.constant(buffer.getvalue())


def train_image(name: str, encoded: tf.Tensor, seed: int, size: int) -> np.ndarray:
    recipe = augment.RECIPES[name]
    seeds = tf.constant([0, seed], tf.int64)
    return augment.train_image(encoded, seeds, recipe, size, 3).numpy()


def assert_like_pillow(actual: np.ndarray, expected: np.ndarray) -> None:
    # Pillow rounds and clips to 0..255 twice: after the columns and after the rows.
    np.testing.assert_allclose(actual, expected, atol=3)
    assert np.abs(actual - expected).mean() < 0.4


@pytest.mark.parametrize(("width", "height"), [(100, 70), (33, 90), (20, 20), (64, 64)])
def test_eval_image_squashes_as_pillow_does(width: int, height: int) -> None:
    image = photo(width, height)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float32)
    actual = augment.eval_image(encode(image, "PNG"), None, 64, 3).numpy()
    assert_like_pillow(actual, expected)


@pytest.mark.parametrize(("width", "height"), [(101, 75), (60, 91), (32, 32), (35, 32)])
def test_eval_image_resizes_the_short_side_and_crops_the_centre(width: int, height: int) -> None:
    image = photo(width, height)
    short = min(width, height)
    resized = image.resize((32 * width // short, 32 * height // short), Image.Resampling.BICUBIC)
    left, top = (round((side - 24) / 2) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + 24, top + 24)), np.float32)
    actual = augment.eval_image(encode(image, "PNG"), 32, 24, 3).numpy()
    assert_like_pillow(actual, expected)


def test_none_leaves_an_image_of_the_right_size_as_it_is() -> None:
    image = photo(16, 16)
    np.testing.assert_array_equal(train_image("none", encode(image, "PNG"), 0, 16), image)


def test_pad_crop_shifts_by_up_to_an_eighth_and_fills_with_black() -> None:
    image = photo(16, 16)
    padded = np.pad(np.asarray(image, np.float32), ((2, 2), (2, 2), (0, 0)))
    views = {
        padded[top : top + 16, left : left + 16].tobytes() for top in range(5) for left in range(5)
    }
    seen = {
        train_image("pad_crop", encode(image, "PNG"), seed, 16).tobytes() for seed in range(200)
    }
    assert seen == views


def test_pad_crop_flip_also_mirrors() -> None:
    encoded = encode(photo(16, 16), "PNG")
    mirrored = encode(photo(16, 16).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG")
    seen = {train_image("pad_crop_flip", encoded, seed, 16).tobytes() for seed in range(200)}
    for name in encoded, mirrored:
        assert train_image("none", name, 0, 16).tobytes() in seen


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_inception_crops_boxes_of_legal_area_and_aspect(file_format: str) -> None:
    # Red counts columns and green counts rows, so a crop tells which box it shows.
    columns, rows = np.meshgrid(np.arange(100) * 2.0, np.arange(80) * 2.0)
    pixels = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)
    encoded = encode(Image.fromarray(pixels), file_format)
    flips, areas = [], []
    for seed in range(60):
        crop = train_image("inception", encoded, seed, 32)
        column_step = (crop[:, -1, 0] - crop[:, 0, 0]).mean() / 31
        row_step = (crop[-1, :, 1] - crop[0, :, 1]).mean() / 31
        width, height = abs(column_step) * 16, row_step * 16
        flips.append(column_step < 0)
        areas.append(width * height / 8000)
        assert 0.7 < width / height < 1.42
    assert 0.07 < min(areas) < 0.3
    assert 0.7 < max(areas) < 1.05
    assert 15 < sum(flips) < 45


@pytest.mark.parametrize("name", augment.RECIPES)
def test_recipes_depend_on_the_seed_alone(name: str) -> None:
    encoded = encode(photo(50, 40), "JPEG")
    first, again, other = (train_image(name, encoded, seed, 32) for seed in (1, 1, 2))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 255
    np.testing.assert_array_equal(first, again)
    assert (name == "none") == np.array_equal(first, other)
