"""`dwconv-jax eval`."""

from collections.abc import Sequence

from dwconv_jax.cli.config import ConfigArgumentParser, add_checkpoint_flag, check_run
from dwconv_jax.cli.processes import add_process_flags, start
from dwconv_jax.command_line import shown_errors


def main(arguments: Sequence[str]) -> None:
    """Evaluates a checkpoint of a run."""
    parser = ConfigArgumentParser(
        "dwconv-jax eval", "Evaluates a checkpoint of a run on its evaluation split."
    )
    parser.add_argument("--workdir", required=True, help="of the run: its --workdir in training")
    add_checkpoint_flag(parser)
    add_process_flags(parser)
    flags = parser.parse_args(arguments)
    check_run(flags.workdir, flags.config)
    start(flags)
    from dwconv_jax.training import logs, loop

    logs.set_up()
    with shown_errors():
        loop.evaluate(flags.config, flags.workdir, flags.checkpoint)
