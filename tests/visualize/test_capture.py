"""Captured weights are those of the equation: with the input they give the layer's output."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import LocallyConnected, visualize
from tests.numerics import assert_close

FLAGS = {
    "static": dict(kernel_size=3, groups=2),
    "unshared": dict(kernel_size=3, share_positions=False, map_size=(5, 6)),
    "pooled": dict(kernel_size=(3, 5), dynamic="pooled"),
    "centre": dict(kernel_size=3, dilation=2, dynamic="centre", groups=2),
    "window": dict(connectivity="window", kernel_size=4, shift=1, groups=1),
}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_the_weights_seen_from_a_position_make_its_output(flags):
    layer = LocallyConnected(4, **flags, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 5, 6, 4))
    bias = 0 if layer.bias is None else layer.bias[...][None, None, None]
    y = layer(x) - bias
    mixing = visualize.mixing_weights(layer, x, "")
    for image, row, column in ((0, 0, 0), (1, 2, 3), (1, 4, 5)):
        field = np.nan_to_num(mixing.seen_from((row, column), image))  # [G, H, W]
        weights = np.repeat(field, 4 // len(field), axis=0)
        found = np.einsum("chw,hwc->c", weights, x[image])
        assert_close(found, y[image, row, column], 1e-5)


def test_attention_of_a_model_stays_in_its_window_and_sums_to_one():
    layer = LocallyConnected(
        4, connectivity="window", kernel_size=3, dynamic="attention", groups=2, rngs=nnx.Rngs(0)
    )
    x = jax.random.normal(jax.random.key(1), (1, 6, 6, 4))
    field = visualize.mixing_weights(layer, x, "").seen_from((4, 1))
    assert field.shape == (2, 6, 6)
    assert not np.isnan(field[:, 3:, :3]).any() and np.isnan(field).sum() == 2 * 27
    np.testing.assert_allclose(np.nansum(field, (1, 2)), 1, rtol=1e-6)


def test_layers_are_found_by_their_path(static_model, images):
    assert list(visualize.find_layers(static_model)) == [
        "stages/0/blocks/0/mixer",
        "stages/1/blocks/0/mixer",
    ]
    mixing = visualize.mixing_weights(static_model, images, "stages/1/blocks/0/mixer")
    assert mixing.map_size == (4, 4) and mixing.weights.shape == (1, 1, 1, 9, 16)
    with pytest.raises(ValueError, match=r"layer='mixer' is not .* has stages/0/blocks/0/mixer, "):
        visualize.mixing_weights(static_model, images, "mixer")


def test_a_position_outside_the_map_is_refused(static_model, images):
    mixing = visualize.mixing_weights(static_model, images, "stages/0/blocks/0/mixer")
    with pytest.raises(ValueError, match=r"position=\(7, 0\) must be inside the 7 x 7 map"):
        mixing.seen_from((7, 0))
