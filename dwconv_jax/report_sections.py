"""The sections of the page of a run: scores, mistakes, and the insides of its model."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dwconv_jax import visualize
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.inference.evaluate import Evaluation, Mistake
from dwconv_jax.inference.trained import TrainedModel
from dwconv_jax.layers.weights import Traits
from dwconv_jax.tasks.summary import Summary, class_table
from dwconv_jax.training.config import flatten
from dwconv_jax.visualize.page import Card, Section

_OF_FIRST_LAYERS = "Of the first layer of each stage."
_NUM_EXAMPLES = 5


def missing_data(error: Exception) -> Section:
    """Says what the page lacks without the evaluation data."""
    return Section(
        "Evaluation",
        "The evaluation data could not be opened, so that this page has no scores, no mistakes, "
        f"and nothing that a model computes from an image: {error}.",
    )


def results(trained: TrainedModel, evaluation: Evaluation) -> list[Section]:
    """Metrics, the scores of each class, what is confused, mistakes and predictions."""
    summary, sections = evaluation.summary, [Section("Metrics", table=_metrics(evaluation.summary))]
    if summary.confusion_matrix is not None:
        counts = np.array(summary.confusion_matrix)
        names = [entry["name"] for entry in summary.classes]
        figure = visualize.confusion_matrix(counts, names)
        sections.append(Section("Confusion matrix", figures=[figure]))
    if summary.classes:
        sections.append(Section("Classes", table=class_table(summary.classes)))
    if evaluation.mistakes:
        cards = [_card(mistake, trained.config.dataset) for mistake in evaluation.mistakes]
        text = f"The {len(cards)} most confident, with the probability of what is wrong."
        sections.append(Section("Mistakes", text, cards=cards))
    if evaluation.pictures:
        text = "Of the first examples of the evaluation split; what is true comes first."
        sections.append(Section("Predictions", text, figures=evaluation.pictures))
    return sections


def _card(mistake: Mistake, config: ConfigDict) -> Card:
    root = os.path.join(os.path.expanduser(config.data_dir or ""), "")
    return Card(
        to_pixels(mistake.image, config),
        (
            mistake.name.removeprefix(root),
            f"true: {mistake.truth}",
            f"predicted: {mistake.prediction}",
            f"p = {mistake.score:.2f}",
        ),
    )


def _metrics(summary: Summary) -> list[Sequence[str]]:
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in summary.metrics.items()]
    return [("metric", "value"), *rows]


def config_table(config: ConfigDict) -> list[Sequence[str]]:
    """Every field of a config and its value."""
    fields = flatten(config.to_dict())
    return [("field", "value"), *((name, str(value)) for name, value in fields.items())]


def static_weights(trained: TrainedModel) -> list[Section]:
    """Weights that are parameters, which can be drawn without an image."""
    return _weights(
        [
            visualize.static_kernels(trained.model, name)
            for name, layer in _first_layers(trained).items()
            if not layer.traits.dynamic
        ]
    )


def insides(trained: TrainedModel, evaluation: Evaluation) -> list[Section]:
    """What a classifier's first layers learned, and what its stages compute from an image."""
    model, images = trained.model, jnp.asarray(evaluation.batch["image"][:_NUM_EXAMPLES])
    pictures = np.stack([to_pixels(image, trained.config.dataset) for image in np.asarray(images)])
    figures = [
        _draw_weights(model, images, pictures, name, layer.traits)
        for name, layer in _first_layers(trained).items()
    ]
    names = trained.task.class_names
    return [
        Section(
            "Attributions",
            "Which places of an image add to the logits of its most probable classes: Grad-CAM at "
            "the map that the head averages.",
            figures=[visualize.attributions(model, images, class_names=names, pictures=pictures)],
        ),
        *_weights(figures),
        Section(
            "Feature maps",
            figures=[visualize.feature_maps(model, images[0], picture=pictures[0])],
        ),
        Section(
            "Effective receptive field",
            "How much each pixel matters to the center of every stage's map: the mean absolute "
            "gradient.",
            figures=[visualize.effective_receptive_field(model, images)],
        ),
    ]


def _weights(figures: list[Any]) -> list[Section]:
    return [Section("Weights", _OF_FIRST_LAYERS, figures=figures)] if figures else []


def _first_layers(trained: TrainedModel) -> dict[str, Any]:
    """The first layer of each stage."""
    layers = visualize.find_layers(trained.model)
    return {name: layer for name, layer in layers.items() if name.endswith("blocks/0/mixer")}


def _draw_weights(
    model: Any, images: jax.Array, pictures: np.ndarray, layer: str, traits: Traits
) -> Any:
    if not traits.dynamic:
        return visualize.static_kernels(model, layer)
    if not traits.per_position:
        return visualize.predicted_kernels(model, images, layer, pictures=pictures)
    height, width = visualize.mixing_weights(model, images[:1], layer).map_size
    positions = [(height // 4, width // 4), (height // 2, width // 2), (height - 1, width - 1)]
    return visualize.weight_field(model, images[0], layer, positions, picture=pictures[0])
