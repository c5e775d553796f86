import numpy as np
import pytest
import tensorflow as tf

from dwconv_jax.data.image.random_erasing import random_erasing

SIZE = 96


def erased(seed: int, probability: float = 1.0, channels: int = 3) -> np.ndarray:
    image = tf.fill([SIZE, SIZE, channels], 7.0)
    return random_erasing(image, tf.constant([0, seed], tf.int64), probability).numpy()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [erased(seed) for seed in range(300)]


def test_one_box_of_legal_area_and_aspect_becomes_noise(images: list[np.ndarray]) -> None:
    areas, aspects, tops, lefts = [], [], [], []
    for image in images:
        changed = (image != 7).all(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert changed.sum() == height * width  # a box, and nothing outside it
        areas.append(height * width / SIZE**2)
        aspects.append(height / width)
        tops.append(rows[0] / (SIZE - height))
        lefts.append(columns[0] / (SIZE - width))
    assert 0.017 < min(areas) < 0.04
    assert 0.29 < max(areas) < 0.35
    assert 0.28 < min(aspects) < 0.5
    assert 2 < max(aspects) < 3.5
    assert abs(np.median(np.log(aspects))) < 0.2
    for places in tops, lefts:
        assert min(places) < 0.05
        assert max(places) > 0.95
        assert abs(np.mean(places) - 0.5) < 0.06


def test_noise_is_standard_normal_and_its_own_in_every_channel(images: list[np.ndarray]) -> None:
    noise = np.concatenate([image[(image != 7).all(-1)] for image in images])
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.02)


def test_as_often_as_told() -> None:
    share = np.mean([(erased(seed, 0.25, 1) != 7).any() for seed in range(600)])
    assert abs(share - 0.25) < 0.07
    assert (erased(0, 0.0) == 7).all()


def test_depends_on_the_seed_alone() -> None:
    np.testing.assert_array_equal(erased(5), erased(5))
    assert not np.array_equal(erased(5), erased(6))


def test_an_image_too_small_for_any_box_stays_as_it_is() -> None:
    image = tf.ones([1, 1, 3])
    seed = tf.constant([0, 0], tf.int64)
    np.testing.assert_array_equal(random_erasing(image, seed, 1.0), image)
