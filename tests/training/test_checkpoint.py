"""Checkpoints on other devices, damaged ones, and disks that are full."""

import gc
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from dwconv_jax.training import checkpoint
from dwconv_jax.training.checkpoint import CheckpointError, Checkpoints, abstract
from dwconv_jax.training.mesh import make_mesh, state_sharding
from dwconv_jax.training.state import TrainState
from tests.full_disk import full_disk


def state_of(step):
    """Random numbers, which no compression makes smaller: 400 kB."""
    rng = np.random.default_rng(step)
    return TrainState(
        step=jnp.int32(step),
        params={"kernel": rng.normal(size=(512, 64)).astype(np.float32)},
        batch_stats={"mean": rng.normal(size=7).astype(np.float32)},
        opt_state=(rng.normal(size=(512, 128)).astype(np.float32), ()),
        skipped_steps=jnp.int32(0),
        ema=None,
    )


def open_checkpoints(workdir, **flags):
    return Checkpoints(epath.Path(workdir), keep=2, best_metric="accuracy", **flags)


def shardings_on(devices, fsdp):
    mesh = make_mesh({"data": -1, "fsdp": fsdp}, jax.devices()[:devices])
    return state_sharding(mesh, state_of(0))


def restore(checkpoints, step, devices=1, fsdp=1):
    return checkpoints.restore(step, abstract(state_of(0), shardings_on(devices, fsdp)))


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with steps 2, 4 and 6, saved by 8 devices; step 2 is the best."""
    workdir = tmp_path_factory.mktemp("saved")
    with open_checkpoints(workdir) as checkpoints:
        for step in (2, 4, 6):
            state = jax.device_put(state_of(step), shardings_on(8, fsdp=8))
            checkpoints.save(state, {"accuracy": 1 / step})
            # As the next training step may: saving must not read it any more.
            jax.tree.map(lambda array: array.delete(), state)
    return workdir


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize(("devices", "fsdp"), [(8, 1), (2, 2), (1, 1)])
def test_other_devices_restore_the_same_bits(saved, devices, fsdp):
    with open_checkpoints(saved) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (6, 2)
        restored = restore(checkpoints, 6, devices, fsdp)
    assert_same(restored, state_of(6))
    kernel = restored.params["kernel"]
    assert len(kernel.sharding.device_set) == devices
    assert kernel.addressable_shards[0].data.size == kernel.size // fsdp


@pytest.fixture
def garbage():
    """Is collected after the test."""
    yield
    gc.collect()


def failing_in_orbax(test):
    """Such calls leave event loops behind, which are heard of again when they are collected."""
    ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    return ignored(pytest.mark.usefixtures("garbage")(test))


def largest_file(folder):
    return max(folder.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())


def cut(checkpoint):
    path = largest_file(checkpoint)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_one_bit(checkpoint):
    """TensorStore reads such a file without a complaint."""
    path = largest_file(checkpoint)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut_metrics(checkpoint):
    """Orbax does not open a directory with such a checkpoint."""
    (checkpoint / "metrics" / "metrics").write_text('{"accuracy": 0.')


def cut_checksums(checkpoint):
    path = checkpoint / "SHA256SUMS"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, r"state/.* is not what was written"),
        (change_one_bit, r"state/.* is not what was written"),
        (cut_metrics, r"metrics/metrics is not what was written"),
        (cut_checksums, r"state/.* is not what was written"),
        (lambda path: (path / "state" / "_METADATA").write_bytes(b""), r"state/_METADATA is not"),
        (lambda path: shutil.rmtree(path / "state"), r"state/_METADATA is missing"),
        (lambda path: (path / "SHA256SUMS").unlink(), r"SHA256SUMS is missing or unreadable"),
    ],
)
def test_a_damaged_checkpoint_is_skipped(copy, caplog, damage, reason):
    damage(copy / "checkpoints" / "6")
    with open_checkpoints(copy) as checkpoints:
        assert checkpoints.latest_step == 4
        assert_same(restore(checkpoints, 4), state_of(4))
        checkpoints.save(state_of(6), {"accuracy": 0.0})
    (warning,) = [record.message for record in caplog.records if record.name == "dwconv_jax"]
    assert re.search(f"skipping the damaged checkpoint {copy}/checkpoints/6: {reason}", warning)
    with open_checkpoints(copy) as checkpoints:
        assert_same(restore(checkpoints, 6), state_of(6))


def test_what_a_failed_run_has_left_is_said(saved, tmp_path):
    with open_checkpoints(tmp_path) as nothing, open_checkpoints(saved) as something:
        assert nothing.latest_in_words == "there is no checkpoint yet"
        assert something.latest_in_words == "the last good checkpoint is that of step 6"


@failing_in_orbax
def test_reading_leaves_all_files_where_they_are(copy):
    cut(copy / "checkpoints" / "6")
    (copy / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()  # as a run that goes on there has
    before = sorted(copy.rglob("*"))
    with open_checkpoints(copy, read_only=True) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (4, 2)
        assert_same(restore(checkpoints, 4), state_of(4))
    assert sorted(copy.rglob("*")) == before
    cut_metrics(copy / "checkpoints" / "6")
    with pytest.raises(CheckpointError, match=r"cannot read .*/checkpoints: "):
        open_checkpoints(copy, read_only=True)


def test_older_damage_is_told_where_it_matters(copy):
    change_one_bit(copy / "checkpoints" / "2")
    with open_checkpoints(copy) as checkpoints:
        assert_same(restore(checkpoints, 6), state_of(6))
        with pytest.raises(
            CheckpointError, match=r"checkpoints/2 is damaged: state/.* is not what"
        ):
            restore(checkpoints, checkpoints.best_step)


def test_what_is_no_checkpoint_is_ignored_or_named(copy):
    (copy / "checkpoints" / "²").mkdir()
    with open_checkpoints(copy) as checkpoints:
        assert checkpoints.latest_step == 6
    (copy / "checkpoints" / "200").touch()
    with pytest.raises(CheckpointError, match=r"checkpoints/200 is a file, .*: move it away"):
        open_checkpoints(copy)


def test_metrics_are_added_to_a_checkpoint(copy):
    with open_checkpoints(copy) as checkpoints:
        checkpoints.save(state_of(8))
        checkpoints.wait()
        assert not checkpoints.is_evaluated(8) and checkpoints.best_step == 2
        checkpoints.save(state_of(8), {"accuracy": 0.9})
        checkpoints.wait()
        assert checkpoints.is_evaluated(8) and checkpoints.best_step == 8
    with open_checkpoints(copy) as checkpoints:
        assert_same(restore(checkpoints, 8), state_of(8))


def test_a_crash_while_metrics_are_added_keeps_the_step(copy, tmp_path, monkeypatch):
    crashed = tmp_path / "crashed"

    def write_checksums(path):
        shutil.copytree(copy, crashed)  # what a crash would leave

    with open_checkpoints(copy) as checkpoints:
        checkpoints.save(state_of(8))
        checkpoints.wait()
        monkeypatch.setattr(checkpoint, "write_checksums", write_checksums)
        checkpoints.save(state_of(8), {"accuracy": 0.9})
    with open_checkpoints(crashed) as checkpoints:
        assert checkpoints.latest_step == 8 and not checkpoints.is_evaluated(8)
        assert_same(restore(checkpoints, 8), state_of(8))
    assert {path.name for path in (crashed / "checkpoints").iterdir()} == {"2", "6", "8"}
    assert {path.name for path in (copy / "checkpoints").iterdir()} == {"6", "8"}


def test_no_intact_checkpoint_is_an_error_every_time(copy):
    for step in (2, 4, 6):
        cut(copy / "checkpoints" / str(step))
    for _ in range(2):
        with pytest.raises(
            CheckpointError, match=r"no checkpoint in .* is intact \(6: .*; 4: .*; 2"
        ):
            open_checkpoints(copy)


@failing_in_orbax
def test_another_state_is_an_error(saved):
    other = state_of(0).replace(params={"kernel": np.zeros((3, 3), np.float32)})
    with (
        open_checkpoints(saved) as checkpoints,
        pytest.raises(CheckpointError, match=r"checkpoints/6 does not hold the state of a run"),
    ):
        checkpoints.restore(6, abstract(other, shardings_on(1, 1)))


@pytest.fixture
def small_disk(tmp_path):
    """Has room for one checkpoint."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of a chosen size takes the rights to mount one")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def save_all(workdir, *states):
    with open_checkpoints(workdir) as checkpoints:
        for state in states:
            checkpoints.save(state)


@failing_in_orbax
def test_a_full_disk_keeps_the_checkpoint_before(small_disk):
    message = r"could not save step 4 in .*: .*No space left on device.* is that of step 2"
    with pytest.raises(CheckpointError, match=message):
        save_all(small_disk, state_of(2), state_of(4), state_of(6))
    with open_checkpoints(small_disk) as checkpoints:
        assert checkpoints.latest_step == 2
        assert_same(restore(checkpoints, 2), state_of(2))


@failing_in_orbax
def test_the_reason_of_a_failed_save_is_its_own(tmp_path):
    def fail():
        with full_disk(100_000), open_checkpoints(tmp_path) as checkpoints:
            checkpoints.save(state_of(2))
            raise ValueError("of the run")

    with pytest.raises(CheckpointError, match=r"could not save step 2 in .*: .*File too large"):
        fail()


@failing_in_orbax
def test_metrics_that_cannot_be_added_keep_the_step(small_disk):
    save_all(small_disk, state_of(2))
    message = r"could not save step 2 in .*: .*No space left on device.* is that of step 2"
    with (
        pytest.raises(CheckpointError, match=message),
        open_checkpoints(small_disk) as checkpoints,
    ):
        checkpoints.save(state_of(2), {"accuracy": 0.9})
    with open_checkpoints(small_disk) as checkpoints:
        assert_same(restore(checkpoints, 2), state_of(2))


@failing_in_orbax
def test_a_file_that_cannot_be_written(tmp_path):
    save_all(tmp_path, state_of(2))
    message = r"could not save step 4 in .*: .*File too large.* is that of step 2"
    with full_disk(100_000), pytest.raises(CheckpointError, match=message):
        save_all(tmp_path, state_of(4))
    with open_checkpoints(tmp_path) as checkpoints:
        assert_same(restore(checkpoints, 2), state_of(2))
