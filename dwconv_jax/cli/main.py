"""Finds the command that a command line names, and runs it."""

import argparse
import importlib
import importlib.util
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from dwconv_jax.command_line import ArgumentParser
from dwconv_jax.version import __version__


class Command(NamedTuple):
    """A module whose `main` takes the arguments after the command's name, and what it does."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("dwconv_jax.cli.train", "train a model, or resume its run"),
    "eval": Command("dwconv_jax.cli.eval", "evaluate a checkpoint of a run"),
    "predict": Command("dwconv_jax.cli.predict", "predict pictures by the model of a run"),
    "report": Command("dwconv_jax.cli.report", "write a page that shows what a run learned"),
    "export": Command(
        "dwconv_jax.cli.export", "write the model of a run as a file that runs alone"
    ),
    "convert": Command("dwconv_jax.convert.__main__", "convert weights from and to PyTorch files"),
    "study": Command("dwconv_jax.study.__main__", "run a grid of trainings and compare them"),
    "compile": Command("dwconv_jax.cli.compile", "compile a training step for absent hardware"),
    "models": Command("dwconv_jax.cli.models", "list the models and what is known of them"),
    "completion": Command("dwconv_jax.cli.completion", "print what makes bash complete words"),
}

_EXAMPLES = """\
examples:
  dwconv-jax train --config=digits --workdir=runs/digits
  dwconv-jax predict --workdir=runs/digits --images=pictures --out=predictions
  dwconv-jax models 'swin*'
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `dwconv-jax`.

    Args:
      arguments: after the program's name; None for those of this process.
    """
    if arguments is None:
        # Until a run has taken a step there is nothing to save: Ctrl-C ends imports and compilation
        # at once. Python's own handler would be lost inside callbacks of JAX.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
    else:
        _run(options.command, options.arguments)


def _run(command: str, arguments: Sequence[str]) -> None:
    try:
        importlib.import_module(COMMANDS[command].module).main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "dwconv_jax").partition(".")[0]
        if importlib.util.find_spec(package) is not None:
            raise
        sys.exit(
            f"error: dwconv-jax {command} needs {package}, which is not installed: "
            "pip install 'dwconv-jax[train]'"
        )


def _parser() -> ArgumentParser:
    commands = "\n".join(f"  {name:<12}{command.summary}" for name, command in COMMANDS.items())
    parser = ArgumentParser(
        "dwconv-jax",
        "Trains and uses networks of locally connected layers.",
        usage="dwconv-jax COMMAND [--help] ...",
        epilog=f"commands:\n{commands}\n\n{_EXAMPLES}",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", nargs="?", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
