"""`--mode=compile`: the step of a config, compiled for devices that are not there."""

import importlib.util
import subprocess
import sys

import jax
import pytest

from dwconv_jax.aot.compile import compile_step
from dwconv_jax.aot.report import report
from dwconv_jax.training.run import Run
from tests.training import tiny


@pytest.fixture(scope="module")
def sharded(data_dir):
    """The step of a tiny model, its parameters split over four of eight devices."""
    assert len(jax.devices()) == 8
    config = tiny.get_config()
    config.dataset.data_dir = data_dir
    config.model.update(embed_dim=64, depths=(1,))  # large enough to be worth splitting
    config.mesh.update(data=2, fsdp=4)
    return compile_step(config, "cpu:8")


def test_memory_adds_up(sharded):
    memory = sharded.cost.memory
    count = sum(p.size for p in jax.tree.leaves(sharded.run.abstract_state.params))
    assert 4 * count / 4 < memory.parameters < 4 * count / 2  # most of them are split in four
    assert memory.optimizer == pytest.approx(2 * memory.parameters, rel=0.1)
    assert memory.batch == 464 / 8 * (8 * 8 * 4 + 4)
    parts = memory.parameters + memory.optimizer + memory.batch + memory.temporaries
    assert memory.total == pytest.approx(parts, rel=0.05)
    assert memory.temporaries > memory.parameters


def test_what_the_devices_tell_each_other(sharded):
    found = {(c.kind, c.group): c for c in sharded.cost.collectives}
    gradients = 4 * sum(p.size for p in jax.tree.leaves(sharded.run.abstract_state.params))
    # Batch statistics and what is not split: among all. Split gradients: among the two copies.
    assert found["all-reduce", 8].count > 10
    assert gradients / 8 < found["all-reduce", 2].payload < gradients
    assert found["all-gather", 4].payload > 0


def test_the_report_says_it_all(sharded):
    text = report(sharded)
    for expected in (
        "### dynamic_dwnet_tiny on cpu:8",
        "8 devices (data 2, fsdp 4); 464 examples a step, 58 on each device; 12 steps",
        "MiB a device, most of it activations, gradients and other temporaries.",
        "| optimizer state | 0.",
        "| all-gather | 4 | ",
    ):
        assert expected in text
    assert "Estimate" not in text  # a processor has no peak rates to go by


def test_a_step_that_does_not_fit_is_told(config, monkeypatch):
    class Refusing:
        def trace(self, *arguments):
            self.jaxpr = jax.make_jaxpr(lambda: 0)()
            return self

        def lower(self):
            return self

        def compile(self, options):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: used 20G of 15G hbm\nDetails")

    monkeypatch.setattr(Run, "train_step", lambda self: Refusing())
    text = report(compile_step(config, "cpu:8"))
    assert text.endswith("**Does not fit.** RESOURCE_EXHAUSTED: used 20G of 15G hbm\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(batch_size=100), "config.batch_size=100 must be a multiple of the 8 devices"),
        (dict(num_epochs=0), "config.num_epochs=0 must be an int >= 1"),
    ],
)
def test_mistakes_in_a_config_are_named(config, changes, message):
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        compile_step(config, "cpu:8")


_WITHOUT_TENSORFLOW = """
import sys
from dwconv_jax.cli.compile import main
from dwconv_jax.training.run import Run

def as_far_as_here(run):
    print(run.task.batch_shapes()["image"].shape[1:], "tensorflow" in sys.modules)
    sys.exit()

Run.train_step = as_far_as_here
for name in ("imagenet", "ade20k", "coco"):
    try:
        main([f"--config={name}:dwnet_tiny", "--topology=cpu:8"])
    except SystemExit as end:
        assert end.code is None, end.code
"""


def test_tensorflow_is_not_imported():
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW]
    result = subprocess.run(command, capture_output=True, text=True)
    shapes = ((224, 224, 3), (512, 512, 3), (1344, 1344, 3))
    assert result.stdout.splitlines() == [f"{shape} False" for shape in shapes], result.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
def test_a_tpu_slice(config):
    step = compile_step(config, "v5e:2x2")
    text = report(step)
    assert "**Fits**" in text and "16,384 MiB" in text
    assert "Estimate: at least" in text
    assert 'custom_call_target="AsyncCollective' in step.text or "all-reduce(" in step.text
