"""Names of what is on a picture."""

import numpy as np
import pytest

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.hub.guesses import imagenet_classes
from dwconv_jax.models.recipe import Preprocessing


def test_predictions_are_the_most_probable_classes(model, picture):
    model.preprocessing, model.class_names = Preprocessing(image_size=(16, 16)), ("a", "b", "c")
    guesses = dwconv_jax.predict(model, picture, top=2)
    logits = np.asarray(model(dwconv_jax.preprocess(model)(picture))[0])
    probabilities = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-probabilities)[:2]
    assert [guess.name for guess in guesses] == ["abc"[k] for k in best]
    np.testing.assert_allclose([g.probability for g in guesses], probabilities[best], rtol=1e-5)
    for again in dwconv_jax.predict(model, [picture] * 2, top=2):
        assert [guess.name for guess in again] == [guess.name for guess in guesses]


def test_a_model_without_names_says_so(model, picture):
    model.class_names = None
    with pytest.raises(UserError, match="3 classes without names"):
        dwconv_jax.predict(model, picture)


def test_imagenet_has_a_thousand_names():
    names = imagenet_classes()
    assert len(names) == 1000
    assert names[207] == "golden retriever"
