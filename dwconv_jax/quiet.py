"""Keeps what libraries print apart from their errors out of a command line's output."""

import logging
import sys
from types import TracebackType
from typing import Any


def hide_aftermath_of_orbax() -> None:
    """Hides what Orbax prints around the one error that it raises when a save or a load fails.

    It logs that error with its traceback, and threads of TensorStore report to event loops that are
    closed by then: a traceback each, some thirty in all.
    """
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    show, show_unraisable = sys.excepthook, sys.unraisablehook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not _is_aftermath(error):
            show(kind, error, trace)

    def unraisable_hook(unraisable: Any) -> None:
        if not _is_aftermath(unraisable.exc_value):
            show_unraisable(unraisable)

    sys.excepthook, sys.unraisablehook = hook, unraisable_hook


def _is_aftermath(error: BaseException | None) -> bool:
    return type(error) is RuntimeError and str(error) == "Event loop is closed"
