"""The log that a person reads during a run: one logger, and silence from the libraries."""

import logging
import sys

import absl.logging
import jax

from dwconv_jax.quiet import hide_aftermath_of_orbax

log = logging.getLogger("dwconv_jax")


def set_up() -> None:
    """Prints our messages, from the first process only, and the warnings of libraries."""
    absl.logging.set_verbosity(absl.logging.WARNING)
    hide_aftermath_of_orbax()
    handler = Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO if jax.process_index() == 0 else logging.WARNING)


class Handler(logging.Handler):
    """Prints to `sys.stderr`, which is another file while a progress bar is below the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)
