"""Real runs of `main.py`: killed, resumed, joined, evaluated."""

import re
import signal
import time

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dwconv_jax.convert.checkpoints import read_weights
from dwconv_jax.errors import UserError
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training import loop
from dwconv_jax.training.preemption import Preempted
from dwconv_jax.training.run import NonFiniteError, Run
from tests.training.processes import (
    entries,
    evaluations,
    final_state,
    finish,
    join,
    start,
    wait_for_step,
    without_speed,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir):
    """A run that was left alone, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    return workdir, finish(start(data_dir, workdir))


def test_a_run_leaves_checkpoints_and_logs(undisturbed):
    workdir, output = undisturbed
    assert re.search(
        r"dynamic_dwnet_tiny, ([\d,]+) parameters, of which \1 are trained, on 1 cpu", output
    )
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
    assert set(entries(workdir)[-1]) == {
        "step", "split", "loss", "accuracy", "top5_accuracy", "balanced_accuracy", "macro_f1",
    }  # fmt: skip
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
@pytest.mark.parametrize(("sent", "receivers"), [(signal.SIGTERM, [1]), (signal.SIGINT, [0, 1])])
def test_processes_stop_at_the_same_step(sent, receivers, tmp_path, data_dir, undisturbed):
    """One is told to stop, or Ctrl-C reaches all; damage to what they save is seen by all."""
    workdir, flags = tmp_path / "joined", ["--config.log_every_steps=1", "--config.mesh.fsdp=2"]
    processes = join(2, data_dir, workdir, *flags)
    wait_for_step(processes[0], workdir, 3)
    for i in receivers:
        processes[i].send_signal(sent)
    outputs = [finish(process, code=143) for process in processes]
    (step,) = re.findall(r"stopped at step (\d+)", outputs[0])
    saved = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert step in saved and max(map(int, saved)) == int(step)
    assert not any("Traceback" in output for output in outputs)
    (workdir / "checkpoints" / step / "state" / "manifest.ocdbt").write_bytes(b"")
    outputs = [finish(process) for process in join(2, data_dir, workdir, *flags)]
    assert f"skipping the damaged checkpoint {workdir}/checkpoints/{step}" in outputs[0]
    ours, theirs = evaluations(workdir), evaluations(undisturbed[0])
    assert ours[12]["loss"] == pytest.approx(theirs[12]["loss"], rel=1e-4)


def test_a_workdir_belongs_to_its_config(undisturbed, config):
    config.model.embed_dim, config.log_every_steps = 16, 3
    with pytest.raises(UserError, match="holds checkpoints of another config") as raised:
        loop.train(config, str(undisturbed[0]))
    assert "model.embed_dim: 8 there, 16 now" in str(raised.value)
    assert "log_every_steps" not in str(raised.value)


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


@pytest.mark.parametrize("is_built", [False, True])
def test_a_missing_kernel_is_the_first_that_is_said(
    is_built, config, tmp_path, monkeypatch, caplog
):
    def fails(run):
        raise UserError("weights do not fit")

    lowerings = {"platform": "cpu", "cpu_kernel": is_built}
    monkeypatch.setattr(loop.ops, "describe_lowerings", lambda: lowerings)
    monkeypatch.setattr(Run, "initial_state", fails)
    with caplog.at_level("INFO", "dwconv_jax"), pytest.raises(UserError, match="do not fit"):
        loop.train(config, str(tmp_path))
    said = [record.message for record in caplog.records if record.name == "dwconv_jax"]
    assert len(said) == (0 if is_built else 1)
    assert all("kernel is not built: `pip install -e .`" in line for line in said)


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
