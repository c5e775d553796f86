"""What all command lines share: parsing of flags, and how errors are shown."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from dwconv_jax.errors import UserError

_REPORT = (
    "This looks like a bug in dwconv_jax. Please report it with the command that you ran and the "
    "traceback above."
)


class ArgumentParser(argparse.ArgumentParser):
    """Parses the flags of a program or command; a mistake exits with one line."""

    def __init__(self, prog: str, description: str | None, **options: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """See the base class."""
        sys.exit(f"error: {message}; see {self.prog} --help")


@contextlib.contextmanager
def shown_errors() -> Iterator[None]:
    """Exits with one line for errors that a user can correct, and with a traceback for bugs.

    `UserError` and `OSError` end the program with `error: <message>` and exit code 1. Every other
    exception keeps its traceback, followed by a line that asks to report it.
    """
    try:
        yield
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        error.add_note(_REPORT)
        raise
