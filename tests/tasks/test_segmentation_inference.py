"""Resizing to sizes that are data, windows, and means over views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.models.upernet import resize
from dwconv_jax.tasks.segmentation_inference import (
    mean_probabilities,
    resize_to_sizes,
    sliding_logits,
)


def channel_sums(images):
    """A model of one pixel: what it says of a place does not depend on the window."""
    return jnp.stack([images.sum(-1), -images[..., 0]], axis=-1)


def test_sizes_that_are_data(rng):
    x = jnp.asarray(rng.normal(size=(3, 6, 9, 2)), jnp.float32)
    sizes = [(11, 20), (3, 4), (6, 9)]
    actual = jax.jit(resize_to_sizes, static_argnums=2)(x, jnp.array(sizes), (12, 20))
    for i, (height, width) in enumerate(sizes):
        expected = resize(x[i : i + 1], (height, width))[0]
        np.testing.assert_allclose(actual[i, :height, :width], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 30), (8, 31), (5, 6)])
def test_windows_cover_the_image(rng, size):
    images = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    actual = sliding_logits(channel_sums, images, crop=(8, 10), stride=(5, 7))
    np.testing.assert_allclose(actual, channel_sums(images), rtol=1e-5, atol=1e-6)


def test_windows_lie_inside():
    seen = []

    def model(images):
        seen.append(images[0, 0, 0, 0].item())
        return images

    images = jnp.arange(11.0).reshape(1, 1, 11, 1)
    sliding_logits(model, images, crop=(1, 5), stride=(1, 4))
    assert seen == [0, 4, 6]


def test_mean_over_views(rng):
    image = jnp.asarray(rng.normal(size=(1, 6, 8, 3)), jnp.float32)
    views = [image, resize(image, (3, 4))]
    actual = mean_probabilities(channel_sums, views, (12, 16))
    expected = sum(jax.nn.softmax(resize(channel_sums(v), (12, 16))) for v in views) / 2
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_allclose(actual.sum(-1), 1, rtol=1e-5)
