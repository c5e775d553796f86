"""Names what is on pictures, and point clouds."""

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple, overload

import jax
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.hub.inputs import preprocess
from dwconv_jax.models.classifier import Classifier
from dwconv_jax.models.point_prompt import PointClassifier

AnyClassifier = Classifier | PointClassifier

_DEFAULT_TOP = 5


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    probability: float


@overload
def predict(
    model: AnyClassifier, pictures: list[Any], top: int | None = ...
) -> list[list[Guess]]: ...


@overload
def predict(model: AnyClassifier, pictures: Any, top: int | None = ...) -> list[Guess]: ...


def predict(model: AnyClassifier, pictures: Any, top: int | None = None) -> Any:
    """Returns the most probable classes of one picture or point cloud, or of each in a list.

    The probabilities of a multi-label model, one with `thresholds`, are independent of each other.

        model = create_model("hf-hub:timm/convnext_tiny.fb_in1k")
        predict(model, "photo.jpg", top=3)  # [Guess(name="Egyptian cat", probability=0.83), ...]

    Args:
      model: a classifier that knows its preprocessing and class names. One of 1,000 classes without
        names is taken for ImageNet's.
      pictures: a path, an image of PIL, or uint8 `[H, W]` or `[H, W, C]`; or a list of them. A
        `PointClassifier` takes clouds: numbers `[n, 3]` whose second axis points up, or paths of
        `.npy` or `.obj` files; it looks at them from `model.preprocessing.num_views` places.
      top: how many classes to return, most probable first. None for 5, or for a multi-label model
        all classes whose probability reaches their threshold.

    Raises:
      UserError: if the model lacks class names or preprocessing, or for what is no picture or
        cloud.
    """
    if not isinstance(model, AnyClassifier):
        raise UserError(f"predict takes a classifier, got {type(model).__name__}")
    names = class_names(model)
    inputs = preprocess(model)(pictures)
    graph, state = nnx.split(model)
    probabilities = np.asarray(_probabilities(graph, state, inputs))
    guesses = [
        [Guess(names[k], float(row[k])) for k in _best(row, top, model.thresholds)]
        for row in probabilities
    ]
    return guesses if isinstance(pictures, list | tuple) else guesses[0]


def _best(
    probabilities: np.ndarray, top: int | None, thresholds: Sequence[float] | None
) -> np.ndarray:
    order = np.argsort(-probabilities)
    if top is None and thresholds is not None:
        return order[(probabilities >= thresholds)[order]]
    return order[: _DEFAULT_TOP if top is None else top]


def class_names(model: AnyClassifier) -> Sequence[str]:
    """The model's own class names, or ImageNet's.

    Raises:
      UserError: if the model has none and not ImageNet's number of classes.
    """
    if model.class_names is not None:
        return model.class_names
    imagenet = imagenet_classes()
    if model.num_classes != len(imagenet):
        raise UserError(
            f"the model has {model.num_classes} classes without names; set model.class_names"
        )
    return imagenet


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1K's classes, in the order of the labels (from WordNet 3.0)."""
    text = resources.files("dwconv_jax.hub").joinpath("imagenet_classes.txt").read_text()
    return tuple(text.splitlines())


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(graph: Any, state: Any, inputs: jax.Array) -> jax.Array:
    model = nnx.merge(graph, state)
    if isinstance(model, PointClassifier):
        of_views, _ = model.predict(inputs)
        return jax.nn.softmax(of_views.mean(1))
    logits = model(inputs, train=False)
    return jax.nn.softmax(logits) if model.thresholds is None else jax.nn.sigmoid(logits)
