"""Real runs of `main.py`: killed, resumed, joined, evaluated."""

import json
import os
import random
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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dwconv_jax.convert.checkpoints import read_weights
from dwconv_jax.errors import UserError
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training import loop
from dwconv_jax.training.preemption import Preempted
from dwconv_jax.training.run import NonFiniteError, Run

REPOSITORY = Path(__file__).parents[2]
NUM_STEPS = 12


def start(data_dir, workdir, *arguments, devices=1):
    command = [
        sys.executable, "main.py", "--config=tests/training/tiny.py", f"--workdir={workdir}",
        f"--config.dataset.data_dir={data_dir}", *arguments,
    ]  # fmt: skip
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        # Programs are compiled once for all runs; their bits are the same.
        "JAX_COMPILATION_CACHE_DIR": f"{data_dir}/compiled",
        "JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == code, output
    return output


def wait_for_step(process, workdir, step):
    """Returns once a run has logged a step."""
    while not any(e["step"] >= step for e in entries(workdir)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


def join(count, data_dir, workdir, *arguments):
    """Starts one run in several processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"--coordinator=localhost:{free.getsockname()[1]}"
    return [
        start(
            data_dir,
            workdir,
            address,
            f"--num_processes={count}",
            f"--process_id={i}",
            *arguments,
        )
        for i in range(count)
    ]


def entries(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def without_speed(workdir):
    return [{k: v for k, v in e.items() if k != "images_per_second"} for e in entries(workdir)]


def evaluations(workdir):
    return {e["step"]: e for e in entries(workdir) if e["split"] == "eval"}


def final_state(workdir, step=NUM_STEPS):
    with warnings.catch_warnings(), ocp.training.Checkpointer(workdir / "checkpoints") as reader:
        warnings.filterwarnings("ignore", message="Sharding info not provided")
        return reader.load(step)


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
    assert re.search(r"\| head/kernel +\| \(16, 10\)", output)  # the overview of parameters
    (text,) = EventAccumulator(str(workdir)).Reload().Tensors("parameters")
    assert b"head/kernel" in text.tensor_proto.string_val[0]
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


def test_a_finished_run_is_evaluated(undisturbed, data_dir, config, caplog):
    workdir, _ = undisturbed
    accuracy = f"accuracy {entries(workdir)[-1]['accuracy']:,.4g}"
    with caplog.at_level("INFO"):
        loop.train(config, str(workdir))
    assert "holds a finished run of 12 steps" in caplog.text and accuracy in caplog.text
    evaluated = finish(start(data_dir, workdir, "--mode=eval"))
    assert "using the latest checkpoint" in evaluated and accuracy in evaluated


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_at_random_moments(tmp_path, data_dir):
    """While it starts, steps, evaluates, saves: the end is that of a run that was left alone."""
    steps, kills = 160, 20
    flags = [
        f"--config.num_steps={steps}",
        "--config.checkpoint_every_steps=4",
        "--config.eval_every_steps=32",
        "--config.model.name=dwnet_tiny",
        "--config.model.depths=(1,)",
    ]
    finish(start(data_dir, tmp_path / "undisturbed", *flags))
    moments, workdir = random.Random(0), tmp_path / "killed"
    for kill in range(kills):
        process = start(data_dir, workdir, *flags)
        if kill % 4:
            newest = max((int(p.name) for p in workdir.glob("checkpoints/[0-9]*[0-9]")), default=0)
            # Often beyond the next checkpoint, so that slow machines get on as well.
            wait_for_step(process, workdir, newest + moments.randint(1, 6))
            time.sleep(moments.uniform(0, 0.5))
        else:
            time.sleep(moments.uniform(0, 10))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
    assert "resuming" in finish(start(data_dir, workdir, *flags))
    assert without_speed(workdir) == without_speed(tmp_path / "undisturbed")
    ends = [final_state(tmp_path / name, steps) for name in ("killed", "undisturbed")]
    jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.parametrize(
    ("devices", "fsdp", "fewer"),
    [
        (1, 1, 1),
        pytest.param(2, 2, 1, marks=pytest.mark.slow),
        pytest.param(8, 8, 4, marks=pytest.mark.slow),
    ],
)
def test_a_run_told_to_stop_continues_on_as_many_devices_or_fewer(
    devices, fsdp, fewer, undisturbed, tmp_path, data_dir
):
    workdir, flags = tmp_path / "stopped", ["--config.log_every_steps=1"]
    process = start(data_dir, workdir, *flags, f"--config.mesh.fsdp={fsdp}", devices=devices)
    wait_for_step(process, workdir, 1)
    process.send_signal(signal.SIGTERM)
    output = finish(process, code=143)
    (step,) = re.findall(r"stopped at step (\d+): run the same command again", output)
    assert (workdir / "checkpoints" / step).exists() and "Traceback" not in output
    assert f"from step {step}" in finish(start(data_dir, workdir, *flags, devices=fewer))
    ours, theirs = evaluations(workdir), evaluations(undisturbed[0])
    assert ours[6]["loss"] == pytest.approx(theirs[6]["loss"], rel=1e-5)
    # From step to step Adam amplifies the rounding of sums taken in parts.
    assert ours[12]["loss"] == pytest.approx(theirs[12]["loss"], rel=1e-4)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_agree_with_one(count, tmp_path, data_dir, undisturbed):
    workdir = tmp_path / "joined"
    outputs = [finish(process) for process in join(count, data_dir, workdir)]
    assert f"on {count} cpu device(s)" in outputs[0] and "step 12/12" not in outputs[1]
    for ours, theirs in zip(without_speed(workdir), without_speed(undisturbed[0]), strict=True):
        # Twelve steps of Adam amplify the rounding of sums taken in two halves.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


@pytest.mark.slow
def test_processes_stop_at_the_same_step(tmp_path, data_dir, undisturbed):
    """One of them is told to stop; damage to what they save is seen by all."""
    workdir, flags = tmp_path / "joined", ["--config.log_every_steps=1", "--config.mesh.fsdp=2"]
    processes = join(2, data_dir, workdir, *flags)
    wait_for_step(processes[0], workdir, 3)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [finish(process, code=143) for process in processes]
    (step,) = re.findall(r"stopped at step (\d+)", outputs[0])
    (workdir / "checkpoints" / step / "state" / "manifest.ocdbt").write_bytes(b"")
    outputs = [finish(process) for process in join(2, data_dir, workdir, *flags)]
    assert f"skipping the damaged checkpoint {workdir}/checkpoints/{step}" in outputs[0]
    ours, theirs = evaluations(workdir), evaluations(undisturbed[0])
    assert ours[12]["loss"] == pytest.approx(theirs[12]["loss"], rel=1e-4)


def test_a_workdir_belongs_to_its_config(undisturbed, data_dir):
    process = start(
        data_dir, undisturbed[0], "--config.model.embed_dim=16", "--config.log_every_steps=3"
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "holds checkpoints of another config" in output
    assert "model.embed_dim: 8 there, 16 now" in output and "log_every_steps" not in output
    assert "Traceback" not in output


def test_ctrl_c_during_an_evaluation_loses_nothing(trained_run, tmp_path, monkeypatch, caplog):
    config, undisturbed = trained_run
    eval_batches = Classification.eval_batches

    def interrupted(task):
        signal.raise_signal(signal.SIGINT)
        yield from eval_batches(task)

    with monkeypatch.context() as context, caplog.at_level("INFO", "dwconv_jax"):
        context.setattr(Classification, "eval_batches", interrupted)
        with pytest.raises(Preempted) as stopped:
            loop.train(config, str(tmp_path))
    assert stopped.value.code == 130 and "stopped at step 6" in caplog.text
    assert (tmp_path / "checkpoints" / "6").exists() and not evaluations(tmp_path)
    loop.train(config, str(tmp_path))
    assert without_speed(tmp_path) == without_speed(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(undisturbed))
    found = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert found == {p.name for p in (undisturbed / "checkpoints").iterdir()}  # the best among them


def test_a_failed_start_leaves_the_description_of_another_run(config, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(config.to_json_best_effort())
    before = (tmp_path / "config.json").read_text()

    def fails(run):
        raise UserError("weights do not fit")

    monkeypatch.setattr(Run, "initial_state", fails)
    config.model.embed_dim = 16
    with pytest.raises(UserError, match="weights do not fit"):
        loop.train(config, str(tmp_path))
    assert (tmp_path / "config.json").read_text() == before


def test_nothing_to_evaluate_is_said(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no checkpoint: train there first"):
        loop.evaluate(config, str(tmp_path))


def test_bad_batches_are_skipped_and_then_stop_the_run(config, tmp_path, monkeypatch, caplog):
    config.update(max_skipped_steps=1, ema_decay=0.5, eval_every_steps=4)
    config.model.update(name="dwnet_tiny", depths=(1,), drop_path_rate=0.0)
    train_batches = Classification.train_batches

    def with_bad_ones(task, start_step):
        for step, batch in enumerate(train_batches(task, start_step), start=start_step + 1):
            yield batch | {"image": batch["image"] * (np.nan if step in (3, 6) else 1)}

    monkeypatch.setattr(Classification, "train_batches", with_bad_ones)
    message = (
        r"step 6 is not finite: .*; 2 non-finite steps, .*max_skipped_steps=1; .* is that of step 4"
    )
    with caplog.at_level("INFO"), pytest.raises(NonFiniteError, match=message):
        loop.train(config, str(tmp_path))
    assert re.search("step 3 is not finite and was skipped: .*loss.*; 1 of at most 1", caplog.text)
    *trained, evaluated = entries(tmp_path)
    assert [(e["step"], e["skipped_steps"]) for e in trained] == [(2, 0), (4, 1)]
    assert all(np.isfinite(v) for e in trained for k, v in e.items() if k != "split")

    # What is evaluated, and given away, are the averages.
    assert loop.evaluate(config, str(tmp_path), "best")["loss"] == evaluated["loss"]
    state, weights = final_state(tmp_path, step=4), read_weights(tmp_path)
    np.testing.assert_array_equal(weights["head/kernel"], state["ema"]["params"]["head"]["kernel"])
    assert not np.array_equal(weights["head/kernel"], state["params"]["head"]["kernel"])
