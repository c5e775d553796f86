"""Resizing to sizes that are data, and means over views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax.models.segmentation.upernet import resize
from dwconv_jax.tasks.segmentation.inference import mean_probabilities, resize_to_sizes


def leaning(images):
    """A model that tells left from right."""
    return jnp.stack([images.sum(-1), jnp.roll(images[..., 0], 1, axis=2)], axis=-1)


def test_sizes_that_are_data(rng):
    x = jnp.asarray(rng.normal(size=(3, 6, 9, 2)), jnp.float32)
    sizes = [(11, 20), (3, 4), (6, 9)]
    actual = jax.jit(resize_to_sizes, static_argnums=2)(x, jnp.array(sizes), (12, 20))
    for i, (height, width) in enumerate(sizes):
        expected = resize(x[i : i + 1], (height, width))[0]
        np.testing.assert_allclose(actual[i, :height, :width], expected, atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_mean_over_views(rng, flip):
    """Every picture as it would be alone, at its own size."""
    images = jnp.asarray(rng.normal(size=(2, 6, 8, 3)), jnp.float32)
    views, sizes, canvas = [images, resize(images, (3, 4))], [(12, 16), (9, 10)], (12, 16)
    actual = mean_probabilities(leaning, views, jnp.array(sizes), canvas, flip=flip)
    np.testing.assert_allclose(actual.sum(-1), 1, rtol=1e-5)
    for i, (height, width) in enumerate(sizes):
        alone = [leaning(view[i : i + 1]) for view in views]
        if flip:
            alone += [leaning(view[i : i + 1, :, ::-1])[:, :, ::-1] for view in views]
        probabilities = [jax.nn.softmax(resize(x, (height, width)))[0] for x in alone]
        expected = sum(probabilities) / len(probabilities)
        np.testing.assert_allclose(actual[i, :height, :width], expected, atol=1e-5)
