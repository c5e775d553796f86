"""Runs that stop early, interrupted and resumed. Nothing is trained: only steps are counted."""

import signal

import jax
import jax.numpy as jnp
import pytest

from dwconv_jax.training import loop
from dwconv_jax.training.preemption import Preempted
from dwconv_jax.training.run import Run
from tests.training.processes import entries, evaluations, without_speed

ACCURACIES = {2: 0.5, 4: 0.6, 6: 0.6, 8: 0.55}


class Evaluator:
    """Returns the accuracies above; at a step of `interrupted` it is told to stop."""

    interrupted = None

    def __init__(self, run):
        pass

    def __call__(self, state, stopped=lambda: False):
        step = int(state.step)
        if step == self.interrupted:
            signal.raise_signal(signal.SIGINT)
        return None if stopped() else ({"accuracy": ACCURACIES[step]}, [])


def counting_step(run):
    return jax.jit(
        lambda state, batch: (state.replace(step=state.step + 1), {"loss": jnp.zeros(())})
    )


@pytest.fixture
def config(config, monkeypatch):
    monkeypatch.setattr(loop, "Evaluator", Evaluator)
    monkeypatch.setattr(Run, "train_step", counting_step)
    config.model.depths = (1,)
    config.eval_every_steps = 2
    config.early_stop_patience = 2
    return config


def test_a_run_stops_early_and_a_resumed_one_remembers(config, tmp_path, monkeypatch, caplog):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    with caplog.at_level("INFO", "dwconv_jax"):
        assert loop.train(config, str(whole)) == {"accuracy": 0.55}
        assert "after step 8: no accuracy above the 0.6 of step 4 in 2 evaluations" in caplog.text
        assert "done: 8 steps" in caplog.text and (whole / "checkpoints" / "8").exists()
        assert list(evaluations(whole)) == [2, 4, 6, 8]

        monkeypatch.setattr(Evaluator, "interrupted", 8)  # evaluated once the run has resumed
        with pytest.raises(Preempted):
            loop.train(config, str(resumed))
        monkeypatch.setattr(Evaluator, "interrupted", None)
        assert loop.train(config, str(resumed)) == {"accuracy": 0.55}
        assert without_speed(resumed) == without_speed(whole)

        caplog.clear()
        assert loop.train(config, str(resumed)) == {"accuracy": 0.55}
        assert "holds a finished run of 8 steps" in caplog.text
        assert entries(resumed)[-1]["step"] == 8
