"""Evidence adds up to the logit, and is drawn where it is."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax import visualize
from dwconv_jax.models import create_model
from tests.visualize.readable import assert_readable, pictures


@pytest.mark.parametrize("name", ["static_model", "swin_model"])
def test_evidence_adds_up_to_the_logit(name, images, request):
    model = request.getfixturevalue(name)
    evidence = visualize.class_evidence(model, images, jnp.array([0, 2, 1]))
    logits = np.asarray(model(images))[[0, 1, 2], [0, 2, 1]]
    bias = np.asarray(model.head.bias[...])[[0, 2, 1]]
    np.testing.assert_allclose(evidence.mean((1, 2)) + bias, logits, atol=1e-5)


@pytest.fixture(scope="session")
def swin_model():
    """A layer norm stands between the last stage and the mean."""
    return create_model(
        "swin_tiny", num_classes=3, embed_dim=8, depths=(1,), num_heads=(2,), patch_size=2,
        rngs=nnx.Rngs(1),
    )  # fmt: skip


def test_attributions_show_the_best_classes(static_model, images):
    figure = visualize.attributions(static_model, images, class_names=("ant", "bee", "cat"))
    assert_readable(figure)
    best = np.argsort(-np.asarray(static_model(images)), axis=-1)
    titles = [panel.get_title() for panel in figure.axes[:3]]
    assert titles == ["", *(("ant", "bee", "cat")[k] for k in best[0, :2])]
    drawn = pictures(figure)[2]  # after the picture, and the same in gray
    evidence = visualize.class_evidence(static_model, images, jnp.asarray(best[:, 0]))[0]
    assert drawn.shape == (14, 14) and evidence.shape == (4, 4)
    row, column = np.unravel_index(np.abs(evidence).argmax(), evidence.shape)
    peak = np.abs(drawn).argmax() // 14, np.abs(drawn).argmax() % 14
    assert abs(peak[0] - (4 * row + 1.5)) < 4 and abs(peak[1] - (4 * column + 1.5)) < 4


def test_a_model_without_a_head_has_no_evidence(images):
    model = dwconv_jax.create_model(
        "dwnet_tiny", num_classes=0, embed_dim=8, depths=(1,), window_size=3, rngs=nnx.Rngs(0)
    )
    with pytest.raises(ValueError, match="must be a classifier with a head, got Classifier"):
        visualize.class_evidence(model, images, jnp.zeros(3, int))
