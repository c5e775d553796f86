"""`dwconv-jax train`."""

from collections.abc import Sequence

from dwconv_jax.cli.config import ConfigArgumentParser
from dwconv_jax.cli.processes import add_process_flags, start
from dwconv_jax.command_line import shown_errors


def main(arguments: Sequence[str]) -> None:
    """Trains a model, or resumes its run."""
    parser = ConfigArgumentParser(
        "dwconv-jax train",
        "Trains a model. The same command resumes a run that was stopped.",
        required=True,
    )
    parser.add_argument(
        "--workdir", required=True, help="where checkpoints and logs go, and are found again"
    )
    add_process_flags(parser)
    flags = parser.parse_args(arguments)
    start(flags)
    # TensorFlow takes seconds to import: not before the flags are parsed.
    from dwconv_jax.training import logs, loop

    logs.set_up()
    with shown_errors():
        loop.train(flags.config, flags.workdir)
