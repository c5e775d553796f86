"""How command lines end: one line for mistakes, a traceback for bugs."""

import traceback

import pytest

from dwconv_jax.command_line import shown_errors
from dwconv_jax.errors import MissingPackageError, UserError


@pytest.mark.parametrize(
    "error", [UserError("x=3 must be even"), OSError("x=3 must be even"), MissingPackageError()]
)
def test_what_a_user_can_correct_is_one_line(error):
    with pytest.raises(SystemExit) as exit_, shown_errors():
        raise error
    assert exit_.value.code == f"error: {error}"


@pytest.mark.parametrize("bug", [ValueError, TypeError, KeyError, RuntimeError, ImportError])
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(bug) as raised, shown_errors():
        raise bug("of the package")
    *_, last = traceback.format_exception(raised.value)
    assert "Please report it with the command that you ran and the traceback above" in last
