"""A run with every option of fine-tuning, interrupted and resumed, ends as if left alone."""

import dataclasses
import itertools
import signal

import jax
import numpy as np
import pytest
from flax import traverse_util

from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training import loop
from dwconv_jax.training.preemption import Preempted
from tests.training.processes import evaluations, final_state, without_speed


@pytest.fixture
def config(config, monkeypatch):
    """Trains low-rank products, norms and the head at rates and decays of their own.

    No evaluation improves on the first one, so that the run stops early.
    """
    config.model.update(name="dwnet_tiny", depths=(1,), drop_path_rate=0.2)
    config.lora_rank = 2
    config.train_only = ("lora", "norm", "head")
    config.optimizer.layer_decay = 0.5
    config.optimizer.weight_decay_groups = (("lora", 0.1), ("head", 0.2))
    config.eval_every_steps = config.checkpoint_every_steps = 2
    config.early_stop_patience = 3
    summarize = Classification.summarize

    def as_good_as_before(task, metrics):
        summary = summarize(task, metrics)
        return dataclasses.replace(summary, metrics=summary.metrics | {"accuracy": 0.5})

    monkeypatch.setattr(Classification, "summarize", as_good_as_before)
    return config


def test_a_resumed_run_equals_an_uninterrupted_one(config, tmp_path, monkeypatch, caplog):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    loop.train(config, str(whole))
    assert list(evaluations(whole)) == [2, 4, 6, 8]  # three without an improvement

    eval_batches, count = Classification.eval_batches, itertools.count(1)

    def interrupted(task):
        if next(count) == 3:  # that of step 6
            signal.raise_signal(signal.SIGINT)
        yield from eval_batches(task)

    with monkeypatch.context() as context:
        context.setattr(Classification, "eval_batches", interrupted)
        with pytest.raises(Preempted):
            loop.train(config, str(resumed))
    assert list(evaluations(resumed)) == [2, 4]  # one without an improvement so far
    with caplog.at_level("INFO", "dwconv_jax"):
        loop.train(config, str(resumed))
    assert "from step 6" in caplog.text and "step 2 in 3 evaluations" in caplog.text
    assert without_speed(resumed) == without_speed(whole)
    ends = [final_state(workdir, step=8) for workdir in (resumed, whole)]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    params = traverse_util.flatten_dict(ends[0]["params"])
    products = [array for path, array in params.items() if path[-1] == "lora_b"]
    assert products and all(array.any() for array in products)  # they were 0
