"""Command lines with a `--config` flag: parsing it, and naming mistakes in it."""

import re
import sys
import traceback
from typing import Any

from absl import flags
from ml_collections.config_flags import config_flags

from dwconv_jax.errors import UserError


class _NumberParser(flags.ArgumentParser):
    """Parses what `float` does, `inf` included, and None, which some fields may be."""

    def parse(self, argument: Any) -> float | None:
        """See the base class."""
        return None if argument in (None, "None") else float(argument)

    def flag_type(self) -> str:
        """See the base class."""
        return "float"


config_flags.register_flag_parser_for_type(float, _NumberParser())


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags of a program that has a `--config` flag; a parser for `absl.app.run`.

    A mistake on the command line exits with one line. An exception inside the config file is shown
    with its traceback, unless it is a `UserError`.
    """
    try:
        remaining = flags.FLAGS(argv)
        getattr(flags.FLAGS.config, "task", None)  # raises the OSError of an unreadable file
        return remaining
    except Exception as error:
        cause = _config_file_error(error)
        if isinstance(cause, UserError):
            sys.exit(f"error: {cause}")
        if cause is not None and not isinstance(cause, OSError):
            traceback.print_exception(cause)
            sys.exit("error: the config file raised the exception above")
        if isinstance(error, AttributeError):
            sys.exit(f"error: {_unknown_field(error, argv)}")
        if isinstance(error, (flags.Error, TypeError, ValueError, OSError)):
            sys.exit(f"error: {str(error).strip().splitlines()[-1].strip()}")
        raise


def _config_file_error(error: BaseException | None) -> BaseException | None:
    """What the config file raised, if anything; absl and config_flags wrap it in other errors."""
    while error is not None:
        codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        if config_flags.ConfigFileFlagParser.parse.__code__ in codes[:-1]:
            return error
        error = error.__cause__ or error.__context__
    return None


def _unknown_field(error: AttributeError, argv: list[str]) -> str:
    """Names the unknown field of `--config.a.b=...` that ml_collections complains about."""
    message = str(error)  # a repr: its quotes may be escaped
    field = (re.findall(r"'(\w+)\\?'", message) or [message])[0]
    paths = (argument.lstrip("-").split("=")[0] for argument in argv)
    path = next((path for path in paths if field in path.split(".")), field)
    close = re.search(r'Did you mean "(\w+)"', message)
    return f"unknown field {path}" + (f"; did you mean {close[1]!r}?" if close else "")
