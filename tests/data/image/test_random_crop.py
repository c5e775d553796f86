import math

import numpy as np
import pytest
import tensorflow as tf

from dwconv_jax.data.image.random_crop import random_box


def boxes(height: int, width: int, count: int) -> np.ndarray:
    @tf.function
    def draw(indices: tf.Tensor) -> tf.Tensor:
        shape = tf.constant(height), tf.constant(width)
        zero = tf.constant(0, tf.int64)
        return tf.map_fn(
            lambda i: random_box(*shape, tf.stack([zero, i])), indices, fn_output_signature=tf.int32
        )

    return draw(tf.range(count, dtype=tf.int64)).numpy()


def drawn_by_hand(rng: np.random.Generator, height: int, width: int) -> tuple[int, ...]:
    """What timm does, one attempt after the other."""
    for _ in range(10):
        area = rng.uniform(0.08, 1) * height * width
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            return rng.integers(0, height - h, endpoint=True), rng.integers(0, width - w), h, w
    raise AssertionError("ten attempts suffice for a photograph")


def test_boxes_are_distributed_as_timm_draws_them(rng: np.random.Generator) -> None:
    drawn = boxes(3000, 4000, 5000)
    expected = np.array([drawn_by_hand(rng, 3000, 4000) for _ in range(20_000)])
    assert (drawn >= 0).all()
    assert (drawn[:, :2] + drawn[:, 2:] <= (3000, 4000)).all()
    for name, statistic in {
        "top": lambda b: b[0],
        "left": lambda b: b[1],
        "area": lambda b: b[2] * b[3] / 3000,
        "aspect": lambda b: 3000 * np.log(b[3] / b[2]),
    }.items():
        levels = np.linspace(0.1, 0.9, 9)
        np.testing.assert_allclose(
            np.quantile(statistic(drawn.T), levels),
            np.quantile(statistic(expected.T), levels),
            atol=150,
            err_msg=name,
        )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10)), ((1, 1), (0, 0, 1, 1))],
)
def test_without_a_box_that_fits_the_centre_is_taken(
    shape: tuple[int, int], expected: tuple[int, ...]
) -> None:
    found = [tuple(box) for box in boxes(*shape, count=5).tolist()]
    assert found == [expected] * 5
