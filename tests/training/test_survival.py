"""Runs that are killed or run out of disk at random moments end as if left alone, bit for bit.

They take an hour: `python -m pytest -n 0 -m slow tests/training/test_survival.py`.
"""

import contextlib
import random
import re
import resource
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from tests.training.processes import entries, final_state, finish, start, without_speed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NUM_STEPS = 320  # more than twenty interrupted starts take
FLAGS = (
    f"--config.num_steps={NUM_STEPS}",
    "--config.log_every_steps=1",
    "--config.checkpoint_every_steps=4",
    "--config.eval_every_steps=16",
    "--config.model.name=dwnet_tiny",
    "--config.model.depths=(1,)",
)
# How a run may end after a signal: at once before the first step, and after a save from then on.
EXIT_CODES = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {-signal.SIGTERM, 128 + signal.SIGTERM},
    signal.SIGINT: {-signal.SIGINT, 128 + signal.SIGINT},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    finish(start(data_dir, workdir, *FLAGS))
    return workdir


def assert_same_end(workdir, undisturbed):
    assert without_speed(workdir) == without_speed(undisturbed)
    ends = [final_state(path, NUM_STEPS) for path in (workdir, undisturbed)]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    assert files(workdir) == files(undisturbed)  # nothing unfinished is left behind


def files(workdir):
    """What a run leaves, without TensorBoard's files, one for each start."""
    names = {
        path.name for folder in (workdir, workdir / "checkpoints") for path in folder.iterdir()
    }
    return {name for name in names if not name.startswith("events.")}


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a file system of 16 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of a chosen size takes the rights to mount one")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def wait_for_moment(process, workdir, moments):
    """Waits for a random moment: while a run starts, steps, evaluates or saves."""
    if moments.random() < 0.2:
        time.sleep(moments.uniform(0, 20))
        return
    first = max((entry["step"] for entry in entries(workdir)), default=0)
    # Often beyond the next checkpoint, so that every start gets on.
    last = first + moments.randint(1, 6)
    while process.poll() is None and not any(e["step"] > last for e in entries(workdir)):
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.2))


def test_twenty_kills_at_random_moments(undisturbed, tmp_path, data_dir):
    moments, workdir = random.Random(0), tmp_path / "killed"
    for kill in range(20):
        process = start(data_dir, workdir, *FLAGS)
        wait_for_moment(process, workdir, moments)
        sent = moments.choice(list(EXIT_CODES))
        process.send_signal(sent)
        output, _ = process.communicate(timeout=900)
        print(f"kill {kill}: {sent.name} ended with {process.returncode}; {output[-200:]}")
        assert process.returncode in EXIT_CODES[sent], output
        assert "Traceback" not in output
    assert "resuming" in finish(start(data_dir, workdir, *FLAGS))
    assert_same_end(workdir, undisturbed)


@contextlib.contextmanager
def full_disk(process, folder):
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**12))
    yield
    ballast.unlink()


@contextlib.contextmanager
def no_file_grows(process, folder):
    """What shows the same where nothing may be mounted."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    yield


def outlives_full_disks(full, folder, data_dir, undisturbed):
    moments, workdir = random.Random(0), folder / "run"
    for failure in range(5):
        process = start(data_dir, workdir, *FLAGS)
        wait_for_moment(process, workdir, moments)
        with full(process, folder):
            output, _ = process.communicate(timeout=900)
        print(f"failure {failure}: {output[-2000:]}")
        assert process.returncode == 1 and "Traceback" not in output, output
        assert len(re.findall("^error: ", output, re.MULTILINE)) == 1, output
    assert "resuming" in finish(start(data_dir, workdir, *FLAGS))
    assert_same_end(workdir, undisturbed)


def test_five_full_disks_at_random_moments(undisturbed, small_disk, data_dir):
    outlives_full_disks(full_disk, small_disk, data_dir, undisturbed)


def test_five_times_no_file_grows(undisturbed, tmp_path, data_dir):
    outlives_full_disks(no_file_grows, tmp_path, data_dir, undisturbed)
