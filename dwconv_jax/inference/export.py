"""From the workdir of a run to a file that runs with JAX alone."""

import json
from collections.abc import Sequence

import jax
from etils import epath
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.inference.artifact import PLATFORMS, export_model
from dwconv_jax.inference.check import latency_ms, random_pixels, relative_difference
from dwconv_jax.training import loop

# Folded norms round differently. More than this is not rounding.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
_ONE, _MANY = 1, 32  # images, of which latencies are told


def export_run(config: ConfigDict, workdir: str, out: str, checkpoint: str = "latest") -> str:
    """Writes a trained classifier as `out`, and what it takes and knows as `out` with `.json`.

    Args:
      config: of the run.
      workdir: of the run.
      out: the file to write; its suffix must not be `.json`.
      checkpoint: "latest" or "best".

    Returns:
      What to tell the user: what was written, how close it is to the model, how fast it is.

    Raises:
      FileExistsError: if there is something at `out`.
      FileNotFoundError: if the run has no checkpoint.
      ValueError: for another task than classification, or a program that is not the model.
    """
    path = epath.Path(out)
    if config.task != "classification":
        raise UserError(f"config.task={config.task!r} cannot be exported; 'classification' can")
    for written in (path, path.with_suffix(".json")):
        if written.exists():
            raise FileExistsError(f"{written} exists already; name a new file with --out")
    run = loop.prepare(config, workdir)
    with jax.set_mesh(run.mesh):
        state = loop.load_state(run, checkpoint)
    model = run.model_of(state)
    dataset = config.dataset
    shape = (dataset.image_size, dataset.image_size, model.in_channels)
    exported = export_model(model, shape, mean=dataset.mean, std=dataset.std)
    program = jax.jit(exported.call)
    one, many = (random_pixels(exported, batch) for batch in (_ONE, _MANY))
    difference = relative_difference(program, model, dataset, many)
    if not difference <= _TOLERANCE[config.model.dtype]:
        raise UserError(f"the program differs from the model by {difference:.1e}: not written")
    _write(path, bytes(exported.serialize()), shape, run.task.class_names)
    speeds = (f"{latency_ms(program, pixels):.2f} ms for {len(pixels)}" for pixels in (one, many))
    return (
        f"wrote {path}: {config.model.name}, step {int(state.step)}, for {', '.join(PLATFORMS)}, "
        f"{path.stat().length / 1e6:.1f} MB\n"
        f"largest difference from the model: {difference:.1e} of its largest logit\n"
        f"latency on {jax.devices()[0].device_kind}: {', '.join(speeds)} image(s)"
    )


def _write(
    path: epath.Path, program: bytes, shape: tuple[int, int, int], class_names: Sequence[str]
) -> None:
    """Whole or not at all: the program comes last, under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = dict(
        input=dict(dtype="uint8", shape=["batch", *shape]),
        output="logits, float32 [batch, classes]",
        classes=list(class_names),
    )
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_bytes(program)
    unfinished.rename(path)
