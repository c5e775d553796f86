"""The flag `--config`: finding the file, overriding its fields, and naming mistakes in it."""

import argparse
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from dwconv_jax.command_line import ArgumentParser, shown_errors
from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path

FOLDER = Path(__file__).parents[1] / "configs"

_EPILOG = """\
fields of the config:
  --config.FIELD=VALUE  replaces a value: --config.batch_size=256,
                        --config.model.name=swin_tiny, --config.mesh.fsdp=8;
                        an unknown field gets the closest one for an answer

packaged configs:
{names}
"""


class _NumberParser(flags.ArgumentParser):
    """Parses what `float` does, `inf` included, and None, which some fields may be."""

    def parse(self, argument: Any) -> float | None:
        """See the base class."""
        return None if argument in (None, "None") else float(argument)

    def flag_type(self) -> str:
        """See the base class."""
        return "float"


config_flags.register_flag_parser_for_type(float, _NumberParser())


class ConfigArgumentParser(ArgumentParser):
    """Parses the flags of a command with `--config`, a `ConfigDict` or None, and its overrides.

    A mistake exits with one line. An exception inside the config file is shown with its traceback,
    unless it is a `UserError`.
    """

    def __init__(self, prog: str, description: str | None, *, required: bool = False) -> None:
        names = textwrap.fill(
            ", ".join(config_names()), 78, initial_indent="  ", subsequent_indent="  "
        )
        super().__init__(prog, description, epilog=_EPILOG.format(names=names))
        self.add_argument(
            "--config",
            required=required,
            help="a packaged config (digits), with a variant where it has some "
            "(imagenet:dwnet_tiny), or a .py file"
            + ("" if required else "; by default the config in the workdir"),
        )

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """See the base class."""
        values, overrides = self.parse_known_args(args)
        if values.config is not None:
            with shown_errors():
                values.config = _load(find_config(values.config), overrides)
        elif overrides:
            needed = " without --config" if overrides[0].startswith("--config.") else ""
            self.error(f"unknown arguments{needed}: {' '.join(overrides)}")
        return values


def add_checkpoint_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that says which checkpoint of a run a command reads."""
    parser.add_argument(
        "--checkpoint", choices=["latest", "best"], default="latest", help="default: latest"
    )


def check_run(workdir: str, config: ConfigDict | None = None) -> None:
    """Exits if the workdir has no run for a command; called before the seconds of its imports.

    Args:
      workdir: of the run.
      config: of the command line; None for that of the run. See `config_of_run`.
    """
    from dwconv_jax.training.description import config_of_run

    with shown_errors():
        config_of_run(absolute_path(workdir, "--workdir"), config)


def config_names() -> list[str]:
    """Names that `--config` takes."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def find_config(value: str) -> str:
    """Returns the file, with the variant, that a value of `--config` stands for.

    Raises:
      UserError: if it is neither a path nor one of `config_names()`.
    """
    name, colon, variant = value.partition(":")
    if name.endswith(".py") or os.sep in name:
        return value
    if name not in config_names():
        raise UserError(
            f"--config={value} is unknown; legal are a .py file and {', '.join(config_names())}"
        )
    return f"{FOLDER / name}.py{colon}{variant}"


def _load(file: str, overrides: Sequence[str]) -> ConfigDict:
    arguments = ["", f"--config={file}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        unknown = values(arguments)[1:]
        getattr(values.config, "task", None)  # raises the OSError of an unreadable file
    except Exception as error:
        cause = _config_file_error(error)
        if isinstance(cause, UserError):
            raise cause from None
        if cause is not None and not isinstance(cause, OSError):
            traceback.print_exception(cause)
            sys.exit("error: the config file raised the exception above")
        if isinstance(error, AttributeError):
            raise UserError(_unknown_field(error, overrides)) from error
        if isinstance(error, (flags.Error, TypeError, ValueError, OSError)):
            raise UserError(str(error).strip().splitlines()[-1].strip()) from error
        raise
    if unknown:
        raise UserError(f"unknown arguments: {' '.join(unknown)}")
    return values.config


def _config_file_error(error: BaseException | None) -> BaseException | None:
    """What the config file raised, if anything; absl and config_flags wrap it in other errors."""
    while error is not None:
        codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        if config_flags.ConfigFileFlagParser.parse.__code__ in codes[:-1]:
            return error
        error = error.__cause__ or error.__context__
    return None


def _unknown_field(error: AttributeError, overrides: Sequence[str]) -> str:
    """Names the unknown field of `--config.a.b=...` that ml_collections complains about."""
    message = str(error)  # a repr: its quotes may be escaped
    field = (re.findall(r"'(\w+)\\?'", message) or [message])[0]
    paths = (argument.lstrip("-").split("=")[0] for argument in overrides)
    path = next((path for path in paths if field in path.split(".")), field)
    close = re.search(r'Did you mean "(\w+)"', message)
    return f"unknown field {path}" + (f"; did you mean {close[1]!r}?" if close else "")
