import collections
import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from dwconv_jax.data.image import rand_augment as module
from dwconv_jax.data.image.rand_augment import OPERATIONS, rand_augment
from tests.data.photographs import photograph, tensor

MEAN = (0.485, 0.456, 0.406)
FILL = (124, 116, 104)
BICUBIC = Image.Resampling.BICUBIC


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    transform = Image.Transform.AFFINE
    return image.transform(image.size, transform, matrix, BICUBIC, fillcolor=FILL)


# What timm calls at a magnitude m = magnitude / 10, s with its sign.
PILLOW: dict[str, Callable[[Image.Image, float, float], Image.Image]] = {
    "AutoContrast": lambda x, m, s: ImageOps.autocontrast(x),
    "Equalize": lambda x, m, s: ImageOps.equalize(x),
    "Invert": lambda x, m, s: ImageOps.invert(x),
    "Rotate": lambda x, m, s: x.rotate(30 * s, BICUBIC, fillcolor=FILL),
    "Posterize": lambda x, m, s: ImageOps.posterize(x, 4 - int(4 * m)),
    "Solarize": lambda x, m, s: ImageOps.solarize(x, 256 - int(256 * m)),
    "SolarizeAdd": lambda x, m, s: x.point(
        [i + int(110 * m) if i < 128 else i for i in range(256)] * 3
    ),
    "Color": lambda x, m, s: ImageEnhance.Color(x).enhance(1 + 0.9 * s),
    "Contrast": lambda x, m, s: ImageEnhance.Contrast(x).enhance(1 + 0.9 * s),
    "Brightness": lambda x, m, s: ImageEnhance.Brightness(x).enhance(1 + 0.9 * s),
    "Sharpness": lambda x, m, s: ImageEnhance.Sharpness(x).enhance(1 + 0.9 * s),
    "ShearX": lambda x, m, s: affine(x, 1, 0.3 * s, 0, 0, 1, 0),
    "ShearY": lambda x, m, s: affine(x, 1, 0, 0, 0.3 * s, 1, 0),
    "TranslateX": lambda x, m, s: affine(x, 1, 0, 0.45 * s * x.width, 0, 1, 0),
    "TranslateY": lambda x, m, s: affine(x, 1, 0, 0, 0, 1, 0.45 * s * x.height),
}


@pytest.mark.parametrize(("magnitude", "sign"), [(9.04, 1), (8.3, -1)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_strengths_are_those_of_timm(name: str, magnitude: float, sign: int) -> None:
    image = photograph()
    strength = tf.constant(magnitude / 10, tf.float32)
    fill = tf.constant(FILL, tf.float32)
    actual = OPERATIONS[name](tensor(image), strength, sign * strength, fill)
    expected = PILLOW[name](image, float(strength), float(sign * strength))
    difference = np.abs(actual - tensor(expected))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_operations_are_chosen_evenly_half_of_the_time_and_with_random_signs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[list[np.ndarray]] = []

    def record(image: tf.Tensor, *draws: tf.Tensor) -> tf.Tensor:
        drawn.append([draw.numpy() for draw in draws])
        return image

    monkeypatch.setattr(module, "_apply", record)
    image = tensor(photograph())
    for seed in range(1500):
        rand_augment(image, tf.constant([3, seed], tf.int64), 9.0, 0.5, MEAN)
    choices, strengths, signed, fill = (np.array(draws) for draws in zip(*drawn, strict=True))
    counts = collections.Counter(choices.reshape(-1).tolist())
    assert set(counts) == set(range(16))
    assert abs(counts.pop(15) / 3000 - 0.5) < 4 * math.sqrt(0.25 / 3000)
    expected = 1500 / 15
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 36.1  # 0.1 %
    repeated = (choices[:, 0] == choices[:, 1]) & (choices[:, 0] < 15)
    assert 5 < repeated.sum() < 50  # with replacement: 25 are expected
    below = strengths[strengths < 1]
    assert abs(np.median(strengths) - 0.9) < 0.005
    assert abs((strengths < 0.85).mean() - 0.159) < 0.03  # one standard deviation
    assert 0.01 < 1 - below.size / strengths.size < 0.04  # clipped at 10
    np.testing.assert_array_equal(np.abs(signed), strengths)
    assert abs((signed < 0).mean() - 0.5) < 0.05
    np.testing.assert_array_equal(np.unique(fill, axis=0), [FILL])


def test_compiled_operations_are_the_tested_ones() -> None:
    image, fill = tensor(photograph()), tf.constant(FILL, tf.float32)
    strength = tf.constant([0.9, 0.8])
    names = list(OPERATIONS)
    for i, name in enumerate(names):
        actual = module._apply(image, tf.constant([i, len(names)]), strength, -strength, fill)
        expected = OPERATIONS[name](image, strength[0], -strength[0], fill)
        difference = np.abs(actual - expected)
        assert difference.max() <= 1  # compiled code fuses products with sums
        assert (difference > 0).mean() < 0.01
    both = module._apply(image, tf.constant([2, 2]), strength, strength, fill)
    np.testing.assert_array_equal(both, image)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_depend_on_the_seed_alone(mode: str) -> None:
    image = tensor(photograph(mode, 32, 32))
    seeds = [tf.constant([0, seed], tf.int64) for seed in (1, 1, *range(2, 12))]
    mean = MEAN[: image.shape[2]]
    first, again, *others = (rand_augment(image, seed, 9.0, 0.5, mean) for seed in seeds)
    assert first.shape == image.shape
    np.testing.assert_array_equal(first, again)
    assert len({other.numpy().tobytes() for other in others}) > 5
    for other in others:
        np.testing.assert_array_equal(other, np.clip(np.round(other), 0, 255))
