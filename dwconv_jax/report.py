"""A page that shows what a classification run learned.

    dwconv-jax report --workdir=runs/digits

Writes `report.html` into the workdir: curves, the confusion matrix, the most confident mistakes,
the weights that the layers learned, and the config. Without the evaluation data the page has what
the workdir alone tells: curves, static weights and the config.
"""

import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from dwconv_jax import visualize
from dwconv_jax.data.image.pixels import to_pixels
from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path
from dwconv_jax.inference.evaluate import Evaluation, evaluate_classifier
from dwconv_jax.inference.trained import TrainedModel, load_trained
from dwconv_jax.layers.weights import Traits
from dwconv_jax.training.description import read_config
from dwconv_jax.training.writers import read_jsonl
from dwconv_jax.visualize.page import Section, write_page

_OF_FIRST_LAYERS = "Of the first layer of each stage."


def write_report(workdir: str) -> epath.Path:
    """Writes `report.html` into a workdir and returns its path.

    Raises:
      FileNotFoundError: if the workdir holds no run, or no checkpoint.
      UserError: if the run does not classify.
    """
    folder = absolute_path(workdir, "--workdir")
    task = read_config(folder).task
    if task != "classification":
        raise UserError(
            f"{folder / 'config.json'} has task={task!r}; reports are of 'classification' alone"
        )
    trained = load_trained(workdir)
    sections = [
        Section(
            "Curves",
            "Training values are means since the last log; evaluation is exact.",
            figures=[visualize.training_curves(read_jsonl(folder))],
        )
    ]
    summary = (
        f"{trained.config.model.name} after {trained.step:,} steps on {trained.config.dataset.name}"
    )
    try:
        evaluation = evaluate_classifier(trained)
    except (UserError, OSError) as error:
        summary += "."
        sections += [_missing_data(error), *_static_weights(trained)]
    else:
        count = int(evaluation.counts.sum())
        summary += f": {evaluation.accuracy:.2%} of {count:,} evaluation images are correct."
        sections += [*_results(trained, evaluation), *_insides(trained, evaluation)]
    sections.append(Section("Config", table=_config_table(trained)))
    path = folder / "report.html"
    write_page(path, f"A run of {trained.config.model.name}", summary, sections)
    return path


def _missing_data(error: Exception) -> Section:
    return Section(
        "Evaluation",
        "The evaluation data could not be opened, so that this page has no confusion matrix, no "
        f"mistakes, and nothing that a model computes from an image: {error}.",
    )


def _results(trained: TrainedModel, evaluation: Evaluation) -> list[Section]:
    names = trained.task.class_names
    sections = [
        Section("Confusion matrix", figures=[visualize.confusion_matrix(evaluation.counts, names)]),
        Section("Classes", table=_class_table(evaluation.counts, names)),
    ]
    if evaluation.mistakes:
        captions = [
            f"true: {names[m.label]}\npred: {names[m.prediction]}\np = {m.probability:.2f}"
            for m in evaluation.mistakes
        ]
        images = np.stack([to_pixels(m.image, trained.config.dataset) for m in evaluation.mistakes])
        total = int(evaluation.counts.sum() - np.trace(evaluation.counts))
        text = f"The {len(images)} most confident of {total:,}, with the predicted probability."
        sections.append(
            Section("Mistakes", text, figures=[visualize.contact_sheet(images, captions)])
        )
    return sections


def _class_table(counts: np.ndarray, names: Sequence[str]) -> list[Sequence[str]]:
    """Recall and precision of each class."""
    rows: list[Sequence[str]] = [("class", "images", "correct %", "precision %")]
    for name, row, column, correct in zip(names, counts, counts.T, counts.diagonal(), strict=True):
        shares = (f"{100 * correct / of.sum():.1f}" if of.sum() else "" for of in (row, column))
        rows.append((name, f"{row.sum():,}", *shares))
    return rows


def _config_table(trained: TrainedModel) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("field", "value")]

    def add(fields: dict[str, Any], prefix: str) -> None:
        for name, value in fields.items():
            if isinstance(value, dict):
                add(value, f"{prefix}{name}.")
            else:
                rows.append((f"{prefix}{name}", str(value)))

    add(trained.config.to_dict(), "")
    return rows


def _first_layers(trained: TrainedModel) -> dict[str, Any]:
    """The first layer of each stage."""
    layers = visualize.find_layers(trained.model)
    return {name: layer for name, layer in layers.items() if name.endswith("blocks/0/mixer")}


def _static_weights(trained: TrainedModel) -> list[Section]:
    """Weights that are parameters, which can be drawn without an image."""
    figures = [
        visualize.static_kernels(trained.model, name)
        for name, layer in _first_layers(trained).items()
        if not layer.traits.dynamic
    ]
    return [Section("Weights", _OF_FIRST_LAYERS, figures=figures)] if figures else []


def _insides(trained: TrainedModel, evaluation: Evaluation) -> list[Section]:
    """What the first layer of each stage learned, and what the stages compute from an image."""
    model, images = trained.model, jnp.asarray(evaluation.examples)
    pictures = np.stack([to_pixels(image, trained.config.dataset) for image in evaluation.examples])
    figures = [
        _draw_weights(model, images, pictures, name, layer.traits)
        for name, layer in _first_layers(trained).items()
    ]
    return [
        Section("Weights", _OF_FIRST_LAYERS, figures=figures),
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


if __name__ == "__main__":
    from dwconv_jax.cli.report import main

    main(sys.argv[1:])
