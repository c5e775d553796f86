"""Learning rates at each step against the authors' numbers, and the length of warm-up."""

import jax
import numpy as np
import pytest

from configs import ade20k, coco
from dwconv_jax.training.config import base_config, validate
from dwconv_jax.training.optimizer.schedules import learning_rate_schedule, warmup_cosine
from tests import golden
from tests.numerics import assert_close

SCHEDULES = golden.load("schedule_cosine")
CASES = pytest.mark.parametrize("case", SCHEDULES.config["cases"], ids=lambda case: case["name"])


@CASES
def test_learning_rate_at_an_update(case):
    scaled = case["scaled"]
    schedule = warmup_cosine(
        scaled["base"], scaled["warmup"], scaled["min"], case["warmup_t"], case["t_initial"]
    )
    expected = SCHEDULES.under(case["name"])
    assert_close(schedule(expected["step"]), expected["lr"], 1e-6)


@CASES
def test_learning_rate_in_force(case):
    config = base_config()
    config.num_epochs = case["epochs"]
    images = case["batch_size"] * case["world_size"]
    config.batch_size = images * max(case["accumulation_steps"], 1)
    config.optimizer.update(
        learning_rate=case["base_lr"],
        warmup_learning_rate=case["warmup_lr"],
        min_learning_rate=case["min_lr"],
        warmup_epochs=float(case["warmup_epochs"]),
        reference_batch_size=512,
    )
    schedule = learning_rate_schedule(config, case["n_iter_per_epoch"])
    expected = SCHEDULES[f"{case['name']}/lr_in_force_first_steps"]
    assert_close(schedule(np.arange(len(expected))), expected, 1e-6)


@pytest.mark.parametrize(
    ("name", "recipe", "steps_per_epoch"),
    [("seg_schedule", ade20k, 20_210 // 16), ("det_schedule", coco, 7330)],
)
def test_the_rate_at_each_step(name, recipe, steps_per_epoch):
    expected = golden.load(name)
    config = recipe.get_config()
    validate(config)
    schedule = jax.jit(learning_rate_schedule(config, steps_per_epoch))
    rates = [float(schedule(int(step))) for step in expected["step"]]
    np.testing.assert_allclose(rates, expected["lr"], rtol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "step"])
def test_steps_of_warmup_override_epochs(schedule):
    config = base_config()
    config.optimizer.schedule = schedule
    config.optimizer.warmup_epochs = 2.0
    in_epochs = learning_rate_schedule(config, 10)
    config.optimizer.update(warmup_epochs=29.0, warmup_steps=20)
    in_steps = learning_rate_schedule(config, 10)
    for step in (0, 5, 19, 20, 21, 50):
        assert in_steps(step) == in_epochs(step)
