"""Intervals in steps and in epochs, and ones that exceed the run."""

import math

from dwconv_jax.training import base_config
from dwconv_jax.training.config import validate
from dwconv_jax.training.intervals import Intervals


def due_steps(config, steps_per_epoch=10):
    intervals = Intervals.of(config, steps_per_epoch)
    steps = range(1, intervals.num_steps + 1)
    return [
        [step for step in steps if due(step)]
        for due in (intervals.logs, intervals.evaluates, intervals.saves)
    ]


def test_epochs_override_steps():
    config = base_config()
    config.update(num_steps=40, log_every_steps=20, eval_every_steps=20, checkpoint_every_steps=20)
    assert due_steps(config) == [[20, 40]] * 3
    config.update(log_every_epochs=1, eval_every_epochs=2.5, checkpoint_every_epochs=0.6)
    assert due_steps(config) == [
        [10, 20, 30, 40],
        [25, 40],
        [6, 12, 18, 24, 25, 30, 36, 40],  # evaluations are saved, too
    ]
    validate(config)


def test_an_interval_beyond_the_run_is_its_end_and_said(caplog):
    config = base_config()
    config.update(num_steps=9, log_every_steps=3, eval_every_steps=1950)
    config.checkpoint_every_epochs = math.inf
    with caplog.at_level("INFO", "dwconv_jax"):
        assert due_steps(config) == [[3, 6, 9], [9], [9]]
    assert "config.eval_every_steps=1950 exceeds the run of 9 steps" in caplog.text
    assert "config.checkpoint_every_epochs=inf exceeds" in caplog.text
    assert "log_every" not in caplog.text


def test_a_fraction_of_a_step_is_a_step():
    config = base_config()
    config.update(num_steps=2, log_every_epochs=1e-9)
    assert due_steps(config)[0] == [1, 2]
