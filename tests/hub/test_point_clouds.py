"""Classifiers of point clouds as folders, and back."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.models.point_prompt import CloudPreprocessing, create_point_classifier


@pytest.fixture(scope="module")
def model():
    model = create_point_classifier(
        "dwnet_tiny", embed_dim=8, depths=[1], num_classes=3, mean=(0.5,) * 3, std=(0.25,) * 3,
        prompt=dict(image_size=16, object_size=12, features=4, neighbors=4, head="mlp"),
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    model.class_names = ("bed", "lamp", "sofa")
    model.preprocessing = CloudPreprocessing(cloud_size=20, num_points=10, num_views=2)
    return model


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_the_same_model(model, saved):
    again = dwconv_jax.create_model(pretrained=saved)
    assert again.recipe == model.recipe and again.normalization == model.normalization
    assert again.preprocessing == model.preprocessing and again.class_names == model.class_names
    for kind in (nnx.Param, nnx.BatchStat):
        jax.tree.map(np.testing.assert_array_equal, nnx.state(model, kind), nnx.state(again, kind))
    card = (saved / "README.md").read_text()
    assert 'predict(model, "chair.obj", top=5)' in card and "pipeline_tag" not in card


def test_predictions_are_means_over_views(model, rng):
    clouds = [rng.normal(size=(30, 3)), rng.normal(size=(8, 3))]
    guesses = dwconv_jax.predict(model, clouds, top=2)
    assert [len(row) for row in guesses] == [2, 2]
    graph, state = nnx.split(model)
    look = jax.jit(lambda state, clouds: nnx.merge(graph, state).predict(clouds))
    of_views, pictures = look(state, dwconv_jax.preprocess(model)(clouds))
    assert of_views.shape == (2, 2, 3) and pictures.shape == (2, 2, 16, 16, 3)
    probabilities = np.asarray(jax.nn.softmax(of_views.mean(1)))
    for row, expected in zip(guesses, probabilities, strict=True):
        assert row[0].name == model.class_names[expected.argmax()]
        assert row[0].probability == pytest.approx(expected.max(), rel=1e-4)
    with pytest.raises(UserError, match="a cloud must have at least 2 points, got 1"):
        dwconv_jax.predict(model, np.zeros((1, 3)))


def test_a_prompt_goes_with_its_classifier(saved):
    with pytest.raises(UserError, match=r"config\.json: it holds a classifier of point clouds"):
        dwconv_jax.create_model("upernet_dwnet_tiny", pretrained=saved)
    fields = json.loads((saved / "config.json").read_text())
    fields["arguments"]["prompt"]["head"] = "cubic"
    (saved / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"config\.json: prompt\.head must be one of"):
        dwconv_jax.create_model(pretrained=saved)
