"""Figures draw the numbers they are given, and their labels can be read."""

import jax
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import LocallyConnected, visualize
from tests.visualize.readable import assert_readable, pictures

FIRST, SECOND = "stages/0/blocks/0/mixer", "stages/1/blocks/0/mixer"


def test_static_kernels_are_the_parameters(static_model):
    figure = visualize.static_kernels(static_model, FIRST)
    assert_readable(figure)
    kernel = static_model.stages[0].blocks[0].mixer.source.kernel[...]  # [1, 1, 9, 8]
    for group, drawn in zip(range(8), pictures(figure), strict=False):
        np.testing.assert_array_equal(drawn, kernel[0, 0, :, group].reshape(3, 3))
    assert "8 of 8 channels" in figure.get_suptitle()


def test_window_weights_are_drawn_as_a_matrix():
    layer = LocallyConnected(4, connectivity="window", kernel_size=2, groups=2, rngs=nnx.Rngs(0))
    figure = visualize.static_kernels(layer, "", max_groups=1)
    np.testing.assert_array_equal(pictures(figure)[0], layer.source.kernel[...][0, :, :, 0])


def test_predicted_kernels_differ_between_images(pooled_model, images):
    figure = visualize.predicted_kernels(pooled_model, images, FIRST, max_groups=2)
    assert_readable(figure)
    weights = visualize.mixing_weights(pooled_model, images, FIRST).weights  # [B, 1, 1, 9, 8]
    drawn = [p for p in pictures(figure) if p.shape == (3, 3)]
    assert len(drawn) == (len(images) + 1) * 2
    group = int(figure.axes[1].get_title().removeprefix("channel "))
    np.testing.assert_array_equal(drawn[0], weights[0, 0, 0, :, group].reshape(3, 3))
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3


def test_weight_fields_lie_on_the_map(pooled_model, images):
    positions = [(0, 0), (3, 4)]
    figure = visualize.weight_field(pooled_model, images[0], FIRST, positions, max_groups=2)
    assert_readable(figure)
    fields = [p for p in pictures(figure) if p.shape == (7, 7)]
    assert [np.isfinite(f).sum() for f in fields] == [4, 9, 4, 9]
    assert np.isfinite(fields[1][2:5, 3:6]).all()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda m, x: visualize.static_kernels(m, FIRST), "has dynamic='pooled', not static"),
        (lambda m, x: visualize.predicted_kernels(m, x[:1], FIRST), "two or more .* got 1"),
        (lambda m, x: visualize.weight_field(m, x[0], FIRST, []), "at least one"),
        (lambda m, x: visualize.weight_field(m, x[0], FIRST, [(9, 9)]), "inside the 7 x 7 map"),
    ],
)
def test_what_cannot_be_drawn_is_said(draw, message, pooled_model, images):
    with pytest.raises(ValueError, match=message):
        draw(pooled_model, images)


def test_static_layers_predict_no_kernels(static_model, images):
    with pytest.raises(ValueError, match="has dynamic='none', not 'pooled'"):
        visualize.predicted_kernels(static_model, images, FIRST)


def test_feature_maps_are_those_of_the_stages(static_model, images):
    figure = visualize.feature_maps(static_model, images[0], channels=3)
    assert_readable(figure)
    channel = int(figure.axes[1].get_title().removeprefix("channel "))
    maps = static_model.features(images[:1])
    np.testing.assert_allclose(pictures(figure)[1], maps[0][0, :, :, channel], atol=1e-5)


def test_receptive_fields_grow_and_stay_within_the_theoretical(static_model, images):
    figure = visualize.effective_receptive_field(static_model, images)
    assert_readable(figure)
    first, second = (np.asarray(p) for p in pictures(figure)[:2])
    # A 3x3 kernel at stride 2 about the unit (3, 3): pixels 4 to 9, and nothing else.
    seen = first > 2e-4
    assert seen[4:10, 4:10].all() and seen.sum() == 36
    assert (second > 2e-4).sum() > 36


def test_curves_hold_the_logged_numbers():
    entries = [
        {"step": step, "split": split, "loss": 1 / step, "accuracy": step / 10}
        for step in (1, 2, 3)
        for split in ("train", "eval")
    ] + [{"step": 3, "split": "train", "learning_rate": 1e-3}]
    figure = visualize.training_curves(entries)
    assert_readable(figure)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    with pytest.raises(ValueError, match="at least one line"):
        visualize.training_curves([])


def test_the_confusion_matrix_shows_counts_and_shares():
    counts = np.array([[3, 1, 0], [0, 0, 0], [0, 5, 5]])
    figure = visualize.confusion_matrix(counts, ["T-shirt/top", "coat", "a garment of many words"])
    assert_readable(figure)
    np.testing.assert_allclose(pictures(figure)[0], [[0.75, 0.25, 0], [0, 0, 0], [0, 0.5, 0.5]])
    assert [t.get_text() for t in figure.axes[0].texts] == ["3", "1", "5", "5"]
    pixels = visualize.confusion_matrix(np.array([[99_000, 1_000], [0, 5]]), ["sky", "sea"])
    assert [t.get_text() for t in pixels.axes[0].texts] == ["99%", "1%", "100%"]
    assert_readable(visualize.confusion_matrix(np.eye(100), [str(i) for i in range(100)]))
    with pytest.raises(ValueError, match=r"counts must be \[2, 2\]"):
        visualize.confusion_matrix(counts, ["a", "b"])


def test_contact_sheets_wrap_and_cut_captions():
    images = np.asarray(jax.random.normal(jax.random.key(0), (10, 8, 8, 1)))
    captions = ["9 taken for 4\na very very long file name.png"] * 10
    figure = visualize.contact_sheet(images, captions, title="Misread")
    assert_readable(figure)
    assert len(pictures(figure)) == 10 and pictures(figure)[0].shape == (8, 8)
    with pytest.raises(ValueError, match="10 images need as many captions, got 1"):
        visualize.contact_sheet(images, ["one"])


def test_bytes_are_drawn_as_they_are():
    """Not stretched to the range of the picture."""
    images = np.full((1, 8, 8, 3), 51, np.uint8)
    images[0, 0] = 102
    (drawn,) = pictures(visualize.contact_sheet(images, ["dark"]))
    np.testing.assert_allclose(np.unique(drawn), [0.2, 0.4], atol=1e-6)


def test_pictures_take_the_place_of_what_the_model_sees(pooled_model, images):
    shown = np.full((len(images), 14, 14, 3), 51, np.uint8)
    for figure in (
        visualize.feature_maps(pooled_model, images[0], picture=shown[0]),
        visualize.predicted_kernels(pooled_model, images, FIRST, pictures=shown),
        visualize.weight_field(pooled_model, images[0], FIRST, [(3, 4)], picture=shown[0]),
    ):
        np.testing.assert_allclose(pictures(figure)[0], 0.2, atol=1e-6)
