"""Real runs of `main.py`: killed, resumed, joined, evaluated."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from dwconv_jax.training import loop

REPOSITORY = Path(__file__).parents[2]
NUM_STEPS = 12


def start(data_dir, workdir, *arguments, devices=1):
    command = [
        sys.executable, "main.py", "--config=tests/training/tiny.py", f"--workdir={workdir}",
        f"--config.dataset.data_dir={data_dir}", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def entries(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def without_speed(workdir):
    return [{k: v for k, v in e.items() if k != "images_per_second"} for e in entries(workdir)]


def final_state(workdir):
    with warnings.catch_warnings(), ocp.training.Checkpointer(workdir / "checkpoints") as reader:
        warnings.filterwarnings("ignore", message="Sharding info not provided")
        return reader.load(NUM_STEPS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir):
    """A run that was left alone, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    return workdir, finish(start(data_dir, workdir))


def test_a_run_leaves_checkpoints_and_logs(undisturbed):
    workdir, output = undisturbed
    assert re.search(r"dynamic_dwnet_tiny, [\d,]+ parameters, on 1 cpu", output)
    assert "1,437 training examples, 12 steps of 464" in output
    assert re.search(r"step 12/12 .* loss .* images_per_second .* left", output)
    assert re.search(r"done: 12 steps in .*accuracy", output)
    steps = {
        split: [e["step"] for e in entries(workdir) if e["split"] == split]
        for split in ("train", "eval")
    }
    assert steps == {"train": [2, 4, 6, 8, 10, 12], "eval": [6, 12]}
    losses = [e["loss"] for e in entries(workdir) if e["split"] == "train"]
    assert losses[-1] < losses[0]
    assert set(entries(workdir)[-1]) == {"step", "split", "loss", "accuracy", "top5_accuracy"}
    assert list(workdir.glob("events.out.tfevents.*"))
    kept = {int(p.name) for p in (workdir / "checkpoints").iterdir()}
    assert {10, 12} <= kept <= {6, 10, 12}  # the newest two, and the best


def test_a_killed_run_continues_to_the_same_bits(undisturbed, tmp_path, data_dir):
    workdir = tmp_path / "killed"
    for checkpoint in (2, 6):
        process = start(data_dir, workdir)
        while not (workdir / "checkpoints" / str(checkpoint)).exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    output = finish(start(data_dir, workdir))
    assert re.search(r"resuming .* from step \d+", output)
    assert without_speed(workdir) == without_speed(undisturbed[0])
    jax.tree.map(np.testing.assert_array_equal, final_state(workdir), final_state(undisturbed[0]))


def test_a_finished_run_is_evaluated(undisturbed, data_dir):
    workdir, _ = undisturbed
    accuracy = f"accuracy {entries(workdir)[-1]['accuracy']:,.4g}"
    again = finish(start(data_dir, workdir))
    assert "holds a finished run of 12 steps" in again and accuracy in again
    evaluated = finish(start(data_dir, workdir, "--mode=eval"))
    assert "using the latest checkpoint" in evaluated and accuracy in evaluated


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_agree_with_one(count, tmp_path, data_dir, undisturbed):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    workdir = tmp_path / "joined"
    joined = [
        start(
            data_dir,
            workdir,
            f"--coordinator={address}",
            f"--num_processes={count}",
            f"--process_id={i}",
        )
        for i in range(count)
    ]
    outputs = [finish(process) for process in joined]
    assert f"on {count} cpu device(s)" in outputs[0] and "step 12/12" not in outputs[1]
    for ours, theirs in zip(without_speed(workdir), without_speed(undisturbed[0]), strict=True):
        # Twelve steps of Adam amplify the rounding of sums taken in two halves.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def test_a_workdir_belongs_to_its_config(undisturbed, data_dir):
    process = start(
        data_dir, undisturbed[0], "--config.model.embed_dim=16", "--config.log_every_steps=3"
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "holds checkpoints of another config" in output
    assert "model.embed_dim: 8 there, 16 now" in output and "log_every_steps" not in output
    assert "Traceback" not in output


def test_nothing_to_evaluate_is_said(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no checkpoint: train there first"):
        loop.evaluate(config, str(tmp_path))


def test_numbers_that_are_not_finite_stop_the_run(config, tmp_path):
    config.optimizer.learning_rate = 1e38
    config.optimizer.warmup_epochs = 0.0
    with pytest.raises(loop.NonFiniteError, match=r"step \d+ is not finite: .*good checkpoint"):
        loop.train(config, str(tmp_path))
    for entry in entries(tmp_path):
        assert all(np.isfinite(v) for k, v in entry.items() if k != "split")
