"""The bar of a run: on a terminal, and nowhere else."""

import io
import logging
import os
import pty
import sys

from rich.console import Console

from dwconv_jax.training import logs
from dwconv_jax.training.progress import ProgressBar


def drawn(**terminal):
    file = io.StringIO()
    console = Console(file=file, width=80, **terminal)
    with ProgressBar(10, 2, batch_size=8, console=console) as bar:
        for step in (3, 4, 5):
            bar.update(step)
    return file.getvalue()


def test_a_terminal_shows_steps_speed_and_time_left():
    text = drawn(force_terminal=True)
    assert " 5/10" in text and " images/s " in text and ":" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there


def test_a_pipe_shows_nothing():
    assert drawn() == ""


def test_lines_of_the_log_stay_whole_above_the_bar(monkeypatch):
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with ProgressBar(3, 0, batch_size=8) as bar:
            for step in (1, 2, 3):
                bar.update(step)
                logs.Handler().emit(logging.makeLogRecord({"msg": f"line {step}"}))
        text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "images/s" in text
    lines = [line for line in text.splitlines() if "line " in line]
    assert [line[-6:] for line in lines] == ["line 1", "line 2", "line 3"]
