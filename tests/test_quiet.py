"""Threads that report to a closed event loop are not heard; every other error is."""

import logging
import types

import pytest

from dwconv_jax import quiet


@pytest.mark.parametrize(
    ("error", "is_shown"),
    [
        (RuntimeError("Event loop is closed"), False),
        (RuntimeError("of the package"), True),
        (ValueError("Event loop is closed"), True),
    ],
)
def test_only_the_aftermath_of_orbax_is_hidden(error, is_shown, monkeypatch):
    shown = []
    hooks = types.SimpleNamespace(
        excepthook=lambda kind, error, trace: shown.append(error),
        unraisablehook=lambda unraisable: shown.append(unraisable.exc_value),
    )
    monkeypatch.setattr(quiet, "sys", hooks)
    monkeypatch.setattr(logging.getLogger("absl"), "filters", [])
    quiet.hide_aftermath_of_orbax()
    hooks.excepthook(type(error), error, None)
    hooks.unraisablehook(types.SimpleNamespace(exc_value=error))
    assert shown == [error, error] * is_shown
