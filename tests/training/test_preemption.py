"""Both signals stop a run at a step; a second Ctrl-C stops at once."""

import os
import signal
import subprocess
import sys

import pytest

from dwconv_jax.training.preemption import PreemptionWatch


@pytest.mark.parametrize(("received", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_at_the_next_step(received, code, caplog):
    before = signal.getsignal(received)
    with caplog.at_level("INFO", "dwconv_jax"), PreemptionWatch() as watch:
        assert signal.getsignal(received) is before  # nothing to save yet: it acts as usual
        assert not watch.reached()
        os.kill(os.getpid(), received)
        assert watch.reached() and watch.reached()
        assert watch.stop().code == code
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a second one acts at once
    assert signal.getsignal(received) is before
    assert f"received {received.name}: saving a checkpoint and stopping" in caplog.text
    assert "Ctrl-C stops at once" in caplog.text


_STARTS = """
import runpy, signal, sys, types

class Interrupts(types.ModuleType):
    def __getattr__(self, name):
        signal.raise_signal(signal.SIGINT)  # while it imports

sys.modules["jax"] = Interrupts("jax")
sys.argv = ["main.py", "--config=configs/digits.py", "--workdir=unused"]
runpy.run_path("main.py", run_name="__main__")
"""


def test_an_interrupted_start_ends_at_once_without_a_traceback():
    result = subprocess.run([sys.executable, "-c", _STARTS], capture_output=True, text=True)
    assert result.returncode == -signal.SIGINT
    assert "Traceback" not in result.stderr
