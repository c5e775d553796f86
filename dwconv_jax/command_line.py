"""What all command lines share: how errors are shown."""

import contextlib
import sys
from collections.abc import Iterator

from dwconv_jax.errors import UserError

_REPORT = (
    "This looks like a bug in dwconv_jax. Please report it with the command that you ran and the "
    "traceback above."
)


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
