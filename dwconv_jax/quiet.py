"""Keeps what libraries print apart from their errors out of a command line's output."""

import logging
import sys
from types import TracebackType


def hide_aftermath_of_orbax() -> None:
    """Hides what Orbax prints around the one error that it raises when a save or a load fails.

    It logs that error with its traceback, and threads of TensorStore report to event loops that are
    closed by then: a traceback each, some thirty in all. Those that threads print by themselves,
    past `sys.excepthook`, cannot be hidden here.
    """
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (kind is RuntimeError and str(error) == "Event loop is closed"):
            show(kind, error, trace)

    sys.excepthook = hook
