"""What a classification run learned, as a page to look at: python -m dwconv_jax.report --help.

    python -m dwconv_jax.report --workdir=runs/digits

Reads the config, the metrics and the newest checkpoint of the workdir, evaluates once more and
writes `report.html` there: curves, the confusion matrix, the pictures that were misread with the
greatest confidence, and the weights that the layers learned.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax import visualize
from dwconv_jax.errors import UserError
from dwconv_jax.training import logs, loop
from dwconv_jax.training.mesh import to_devices
from dwconv_jax.training.state import TrainState
from dwconv_jax.training.step import make_eval_step
from dwconv_jax.training.writers import read_jsonl
from dwconv_jax.visualize.page import Section, write_page

_NUM_MISREAD, _NUM_EXAMPLES = 24, 5


@dataclasses.dataclass
class Reading:
    """What a model said of a whole evaluation split.

    Attributes:
      counts: `[classes, classes]`, how often each class (row) was taken for each (column).
      examples: a few images, `[B, H, W, C]`.
      misread: the most confident mistakes: (confidence, image, label, guess), best first.
    """

    counts: np.ndarray
    examples: np.ndarray
    misread: list[tuple[float, np.ndarray, int, int]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; what the user can mend ends in one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m dwconv_jax.report", description="Writes WORKDIR/report.html of a run."
    )
    parser.add_argument("--workdir", required=True, help="of a run of main.py that classifies")
    logs.set_up()
    try:
        path = write_report(parser.parse_args(arguments).workdir)
    except (ValueError, OSError, loop.NonFiniteError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {path}")


def write_report(workdir: str) -> epath.Path:
    """Writes `report.html` into a workdir and returns its path.

    Raises:
      FileNotFoundError: if there is no run, or no checkpoint of it.
      ValueError: if it is not one of classification.
    """
    path = epath.Path(workdir)
    config_path = path / "config.json"
    if not config_path.exists():
        raise FileNotFoundError(f"{config_path} does not exist: --workdir must be one of main.py")
    config = ConfigDict(json.loads(config_path.read_text()))
    if config.task != "classification":
        raise UserError(
            f"{config_path} has task={config.task!r}; reports are of 'classification' alone"
        )
    run = loop.prepare(config, workdir)
    with jax.set_mesh(run.mesh):
        state = loop.load_state(run, "latest")
        reading = read(run, state)
    model = run.model_of(state)
    images = jax.numpy.asarray(reading.examples)
    sections = [
        *_results(run.task.class_names, reading, read_jsonl(path)),
        *_insides(model, images),
    ]
    accuracy = np.trace(reading.counts) / reading.counts.sum()
    summary = (
        f"{config.model.name} after {int(state.step):,} steps on {config.dataset.name}: "
        f"{accuracy:.2%} of {reading.counts.sum():,} evaluation images are read right."
    )
    write_page(path / "report.html", f"A run of {config.model.name}", summary, sections)
    return path / "report.html"


def read(run: loop.Run, state: TrainState) -> Reading:
    """Evaluates a state over the whole split, keeping what a page shows."""
    step = jax.jit(make_eval_step(run.task, run.model))
    classes = run.task.num_classes
    reading = Reading(np.zeros((classes, classes), int), np.empty(0), [])
    for batch in run.task.eval_batches():
        _, probabilities = step(state, to_devices(batch, run.mesh))
        real = batch["mask"] > 0
        image, label = batch["image"][real], batch["label"][real]
        found = np.asarray(probabilities)[real]
        guess, confidence = found.argmax(-1), found.max(-1)
        np.add.at(reading.counts, (label, guess), 1)
        if not reading.examples.size:
            reading.examples = image[:_NUM_EXAMPLES]
        wrong = np.flatnonzero(guess != label)
        reading.misread += [
            (float(confidence[i]), image[i], int(label[i]), int(guess[i])) for i in wrong
        ]
        reading.misread = sorted(reading.misread, key=lambda m: -m[0])[:_NUM_MISREAD]
    return reading


def _results(
    class_names: Sequence[str], reading: Reading, entries: Sequence[dict[str, Any]]
) -> list[Section]:
    sections = [
        Section(
            "Curves",
            "Training values are means since the last log, evaluation is exact.",
            figures=[visualize.training_curves(entries)],
        ),
        Section(
            "Confusion matrix", figures=[visualize.confusion_matrix(reading.counts, class_names)]
        ),
    ]
    if reading.misread:
        captions = [
            f"is {class_names[label]}\nread {class_names[guess]}, {confidence:.0%}"
            for confidence, _, label, guess in reading.misread
        ]
        images = np.stack([image for _, image, _, _ in reading.misread])
        mistakes = int(reading.counts.sum() - np.trace(reading.counts))
        shown = f"the {len(images)} most confident of {mistakes:,}"
        text = "All mistakes." if len(images) == mistakes else f"Of the mistakes, {shown}."
        sections.append(
            Section("Misread", text, figures=[visualize.contact_sheet(images, captions)])
        )
    return sections


def _insides(model: Any, images: jax.Array) -> list[Section]:
    """What the first layer of each stage learned, and what the stages make of a picture."""
    figures = [
        _draw_weights(model, images, name, layer.dynamic)
        for name, layer in visualize.find_layers(model).items()
        if name.endswith("blocks/0/mixer")
    ]
    return [
        Section("Weights", "Of the first layer of each stage.", figures=figures),
        Section("Feature maps", figures=[visualize.feature_maps(model, images[0])]),
        Section(
            "Effective receptive field",
            "How much each pixel matters to the centre of every stage's map: the mean absolute "
            "gradient.",
            figures=[visualize.effective_receptive_field(model, images)],
        ),
    ]


def _draw_weights(model: Any, images: jax.Array, layer: str, dynamic: str) -> Any:
    if dynamic == "none":
        return visualize.static_kernels(model, layer)
    if dynamic == "pooled":
        return visualize.predicted_kernels(model, images, layer)
    height, width = visualize.mixing_weights(model, images[:1], layer).map_size
    positions = [(height // 4, width // 4), (height // 2, width // 2), (height - 1, width - 1)]
    return visualize.weight_field(model, images[0], layer, positions)


if __name__ == "__main__":
    main()
