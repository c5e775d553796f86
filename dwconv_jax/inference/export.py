"""From the workdir of a run to a file that runs without this package."""

import dataclasses
import json
from typing import Any, Literal, get_args

import jax
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path, write_atomically
from dwconv_jax.inference.onnx import OPSET, export_onnx, onnx_program
from dwconv_jax.inference.program import PLATFORMS, Program, export_model
from dwconv_jax.inference.trained import TrainedModel, load_trained
from dwconv_jax.inference.verify import latency_ms, random_pixels, relative_difference

Format = Literal["jax", "onnx"]
FORMATS: tuple[str, ...] = get_args(Format)
# Folding norms changes rounding; a larger difference is not rounding.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
# The last one is compared with the model, too; logits of pixels take gigabytes for 32 pictures.
_BATCHES = {"classification": (1, 32), "multilabel": (1, 32), "segmentation": (1, 2)}
_OUTPUTS = {
    "classification": "logits, float32 [batch, classes]; their softmax are the probabilities",
    "multilabel": "logits, float32 [batch, classes]; their sigmoids are the probabilities",
    "segmentation": "logits, float32 [batch, height, width, classes]",
}


def export_run(
    workdir: str,
    out: str,
    checkpoint: str = "latest",
    config: ConfigDict | None = None,
    format: Format = "jax",
) -> str:
    """Writes a trained model as `out`, and its input, output and classes beside it as JSON.

    Args:
      workdir: of the run.
      out: the file to write; its suffix must not be `.json`.
      checkpoint: "latest" or "best".
      config: of the run, to override operational fields; by default the one in the workdir.
      format: "jax" for a program of `jax.export`, "onnx" for an ONNX graph.

    Returns:
      A message: what was written, how close it is to the model, and its latency.

    Raises:
      FileExistsError: if a file of that name exists.
      FileNotFoundError: if the run has no checkpoint.
      UserError: if the run neither classifies nor segments, its model cannot be converted, or the
        program does not compute what the model does.
    """
    path = absolute_path(out, "--out")
    about_path = path.with_suffix(".json")
    for written in (path, about_path):
        if written.exists():
            raise FileExistsError(f"{written} exists already; name a new file with --out")
    trained = load_trained(workdir, checkpoint, config)
    shape = _image_shape(trained)
    dataset, model = trained.config.dataset, trained.config.model
    artifact = _ARTIFACTS[format](trained.model, shape, mean=dataset.mean, std=dataset.std)
    pixels = [random_pixels(shape, batch) for batch in _BATCHES[trained.config.task]]
    difference = relative_difference(artifact.program, trained.model, dataset, pixels[-1])
    if not difference <= _TOLERANCE[model.dtype]:
        raise UserError(f"the program differs from the model by {difference:.1e}: not written")
    about: dict[str, Any] = dict(
        input=dict(dtype="uint8", shape=["batch", *shape]),
        output=_OUTPUTS[trained.config.task],
        classes=list(trained.class_names),
    )
    if trained.task.thresholds is not None:
        about["thresholds"] = list(trained.task.thresholds)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(about_path, json.dumps(about, indent=1) + "\n")
    try:
        write_atomically(path, artifact.content)
    except OSError:
        about_path.unlink(missing_ok=True)  # it would refuse the next attempt
        raise
    latencies = (f"{latency_ms(artifact.program, x):.2f} ms for {len(x)}" for x in pixels)
    return (
        f"wrote {path}: {model.name}, step {trained.step}, {artifact.runs_on}, "
        f"{path.stat().length / 1e6:.1f} MB\n"
        f"largest difference from the model: {difference:.1e} of its largest logit\n"
        f"latency on {jax.devices()[0].device_kind}: {', '.join(latencies)} image(s)"
    )


def _image_shape(trained: TrainedModel) -> tuple[int, int, int]:
    task, dataset = trained.config.task, trained.config.dataset
    if task not in _OUTPUTS:
        legal = ", ".join(map(repr, _OUTPUTS))
        raise UserError(f"config.task={task!r} cannot be exported; legal: {legal}")
    size = dataset.crop_size if task == "segmentation" else dataset.image_size
    return size, size, trained.task.description.channels


@dataclasses.dataclass(frozen=True)
class _Artifact:
    content: bytes
    program: Program
    runs_on: str


def _jax_artifact(*args: Any, **kwargs: Any) -> _Artifact:
    exported = export_model(*args, **kwargs)
    content = bytes(exported.serialize())
    return _Artifact(content, jax.jit(exported.call), f"for {', '.join(PLATFORMS)}")


def _onnx_artifact(*args: Any, **kwargs: Any) -> _Artifact:
    content = export_onnx(*args, **kwargs)
    return _Artifact(content, onnx_program(content), f"ONNX opset {OPSET}")


_ARTIFACTS = {"jax": _jax_artifact, "onnx": _onnx_artifact}
