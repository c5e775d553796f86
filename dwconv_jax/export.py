"""A trained classifier as one file that runs with JAX alone.

    python -m dwconv_jax.export --config=configs/digits.py --workdir=runs/digits \\
        --out=digits.jaxexport

Writes the program and, beside it, a `.json` that says what it takes and which classes it knows.
"""

from absl import app, flags
from ml_collections import config_flags

from dwconv_jax.command_line import parse_flags, shown_errors

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config of the run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The workdir of the run.", required=True)
_OUT = flags.DEFINE_string(
    "out", None, "The file to write, such as model.jaxexport.", required=True
)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "latest", ["latest", "best"], "Which checkpoint to export."
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Runs the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    # TensorFlow takes seconds to import: not before the flags are parsed.
    from dwconv_jax.inference.export_run import export_run
    from dwconv_jax.training import logs

    logs.set_up()
    with shown_errors():
        print(export_run(_CONFIG.value, _WORKDIR.value, _OUT.value, _CHECKPOINT.value))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
