"""From the workdir of a run to a file that runs with JAX alone."""

import json

import jax
from ml_collections import ConfigDict

from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path, write_atomically
from dwconv_jax.inference.program import PLATFORMS, export_model
from dwconv_jax.inference.trained import load_trained
from dwconv_jax.inference.verify import latency_ms, random_pixels, relative_difference

# Folding norms changes rounding; a larger difference is not rounding.
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
_LATENCY_BATCHES = (1, 32)


def export_run(
    workdir: str, out: str, checkpoint: str = "latest", config: ConfigDict | None = None
) -> str:
    """Writes a trained classifier as `out`, and its input, output and classes beside it as JSON.

    Args:
      workdir: of the run.
      out: the file to write; its suffix must not be `.json`.
      checkpoint: "latest" or "best".
      config: of the run, to override operational fields; by default the one in the workdir.

    Returns:
      A message: what was written, how close it is to the model, and its latency.

    Raises:
      FileExistsError: if a file of that name exists.
      FileNotFoundError: if the run has no checkpoint.
      UserError: if the run does not classify, or its program does not compute what the model does.
    """
    path = absolute_path(out, "--out")
    about_path = path.with_suffix(".json")
    for written in (path, about_path):
        if written.exists():
            raise FileExistsError(f"{written} exists already; name a new file with --out")
    trained = load_trained(workdir, checkpoint, config)
    config, model = trained.config, trained.model
    if config.task != "classification":
        raise UserError(f"config.task={config.task!r} cannot be exported; 'classification' can")
    dataset = config.dataset
    shape = (dataset.image_size, dataset.image_size, trained.task.description.channels)
    exported = export_model(model, shape, mean=dataset.mean, std=dataset.std)
    program = jax.jit(exported.call)
    pixels = [random_pixels(exported, batch) for batch in _LATENCY_BATCHES]
    difference = relative_difference(program, model, dataset, pixels[-1])
    if not difference <= _TOLERANCE[config.model.dtype]:
        raise UserError(f"the program differs from the model by {difference:.1e}: not written")
    about = dict(
        input=dict(dtype="uint8", shape=["batch", *shape]),
        output="logits, float32 [batch, classes]",
        classes=list(trained.task.class_names),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(about_path, json.dumps(about, indent=1) + "\n")
    try:
        write_atomically(path, bytes(exported.serialize()))
    except OSError:
        about_path.unlink(missing_ok=True)  # it would refuse the next attempt
        raise
    latencies = (f"{latency_ms(program, batch):.2f} ms for {len(batch)}" for batch in pixels)
    return (
        f"wrote {path}: {config.model.name}, step {trained.step}, for {', '.join(PLATFORMS)}, "
        f"{path.stat().length / 1e6:.1f} MB\n"
        f"largest difference from the model: {difference:.1e} of its largest logit\n"
        f"latency on {jax.devices()[0].device_kind}: {', '.join(latencies)} image(s)"
    )
