"""A trained classifier or segmenter as one file that runs with JAX or ONNX Runtime alone.

    python -m dwconv_jax.export --workdir=runs/digits --out=digits.jaxexport
    python -m dwconv_jax.export --workdir=runs/digits --out=digits.onnx --format=onnx

Writes the program and, beside it, a `.json` file with its input, its output and its classes.
"""

from absl import app, flags
from ml_collections import config_flags

from dwconv_jax.command_line import shown_errors
from dwconv_jax.flags import parse_flags
from dwconv_jax.inference.program import PLATFORMS, export_model

__all__ = ["PLATFORMS", "export_model"]


def main(argv: list[str]) -> None:
    """Runs the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    # TensorFlow takes seconds to import: not before the flags are parsed.
    from dwconv_jax.inference.export import export_run
    from dwconv_jax.training import logs

    logs.set_up()
    values = flags.FLAGS
    with shown_errors():
        print(
            export_run(values.workdir, values.out, values.checkpoint, values.config, values.format)
        )


def _define_flags() -> None:
    config_flags.DEFINE_config_file(
        "config", None, "The config of the run; by default the one in the workdir."
    )
    flags.DEFINE_string("workdir", None, "The workdir of the run.", required=True)
    flags.DEFINE_string("out", None, "The file to write, such as model.jaxexport.", required=True)
    flags.DEFINE_enum(
        "format", "jax", ["jax", "onnx"], "A program of jax.export, or an ONNX graph."
    )
    flags.DEFINE_enum("checkpoint", "latest", ["latest", "best"], "Which checkpoint to export.")


if __name__ == "__main__":
    _define_flags()
    app.run(main, flags_parser=parse_flags)
