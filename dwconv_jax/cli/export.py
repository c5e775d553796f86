"""`dwconv-jax export`."""

from collections.abc import Sequence

from dwconv_jax.cli.config import ConfigArgumentParser, add_checkpoint_flag, check_run
from dwconv_jax.command_line import shown_errors


def main(arguments: Sequence[str]) -> None:
    """Writes the model of a run as a file."""
    parser = ConfigArgumentParser(
        "dwconv-jax export",
        "Writes the classifier or segmenter of a run as one file that runs with JAX or ONNX\n"
        "Runtime alone.",
    )
    parser.add_argument("--workdir", required=True, help="of the run: its --workdir in training")
    parser.add_argument("--out", required=True, help="the file to write, such as model.jaxexport")
    parser.add_argument(
        "--format",
        choices=["jax", "onnx"],
        default="jax",
        help="a program of jax.export, the default, or an ONNX graph",
    )
    add_checkpoint_flag(parser)
    flags = parser.parse_args(arguments)
    check_run(flags.workdir, flags.config)
    # TensorFlow takes seconds to import: not before the flags are parsed.
    from dwconv_jax.inference.export import export_run
    from dwconv_jax.training import logs

    logs.set_up()
    with shown_errors():
        print(export_run(flags.workdir, flags.out, flags.checkpoint, flags.config, flags.format))
