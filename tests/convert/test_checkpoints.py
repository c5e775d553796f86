"""Checkpoints of weights: written once, read on other devices, refused where damaged."""

import logging
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from orbax.checkpoint import v1 as ocp

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.convert.checkpoints import load_weights, read_weights, save_weights
from dwconv_jax.convert.checksums import write_checksums
from tests.convert.released import (
    FAMILIES,
    assert_same,
    filled_model,
    random_state_dict,
    small_model,
)

NAME = "dynamic_dwnet_tiny"


@pytest.fixture(scope="module")
def state_dict():
    return random_state_dict(small_model(NAME))


@pytest.fixture
def saved(tmp_path, state_dict):
    path = tmp_path / "weights"
    save_weights(path, load_torch(small_model(NAME), state_dict))
    return path


def test_round_trip(saved, state_dict):
    model = small_model(NAME)
    assert load_weights(model, saved) is model
    assert_same(to_torch(model), state_dict)
    assert [path.name for path in saved.parent.iterdir()] == ["weights"]


def test_weights_have_the_names_of_their_variables(saved, state_dict):
    weights = read_weights(saved)
    assert weights["stages/0/blocks/0/norm_in/mean"].shape == (8,)
    np.testing.assert_array_equal(weights["head/kernel"], state_dict["head.weight"].T)


def test_nothing_is_overwritten(saved, state_dict):
    with pytest.raises(FileExistsError, match="weights exists already; name a new directory"):
        save_weights(saved, small_model(NAME))
    assert_same(to_torch(load_weights(small_model(NAME), saved)), state_dict)


def save_run(workdir, steps, model):
    """Checkpoints as a training run leaves them: one array lies on all devices."""
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    params = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    stats = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
    with ocp.training.Checkpointer(workdir / "checkpoints") as checkpointer:
        for step in steps:
            scale = np.full(16, step, np.float32)
            params["norm"]["scale"] = jax.device_put(scale, NamedSharding(mesh, P("fsdp")))
            state = dict(step=step, params=params, batch_stats=stats, opt_state=({"mu": scale},))
            checkpointer.save(step, state)
    for step in steps:
        write_checksums(epath.Path(workdir) / "checkpoints" / str(step))


def test_the_newest_checkpoint_of_a_run(tmp_path, state_dict):
    save_run(tmp_path, [9, 10], load_torch(small_model(NAME), state_dict))
    model = load_weights(small_model(NAME), tmp_path)
    assert_same(to_torch(model), state_dict | {"norm.weight": np.full(16, 10, np.float32)})


def test_a_corrupt_newest_checkpoint_gives_the_one_before(tmp_path, state_dict, caplog):
    save_run(tmp_path, [9, 10], load_torch(small_model(NAME), state_dict))
    path = max((tmp_path / "checkpoints" / "10").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16  # which TensorStore reads without a complaint
    path.write_bytes(content)
    model = load_weights(small_model(NAME), tmp_path)
    assert_same(to_torch(model), state_dict | {"norm.weight": np.full(16, 9, np.float32)})
    assert "skipping the damaged checkpoint" in caplog.text
    with pytest.raises(ValueError, match="10 is damaged, or no checkpoint of weights: state/"):
        read_weights(tmp_path / "checkpoints" / "10")


def test_converted_weights_are_compared_with_their_checksums(saved):
    (path,) = (saved / "state" / "d").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"weights is damaged, or no .*: state/d/"):
        read_weights(saved)


_ON_A_FULL_DISK = """
import resource, sys
from dwconv_jax.convert.__main__ import main

resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))  # acts as a full disk
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["again", "again.pth", "again.safetensors"])
def test_a_full_disk_leaves_nothing_at_the_destination(saved, name):
    command = [sys.executable, "-c", _ON_A_FULL_DISK, saved, saved.parent / name]
    overrides = [f"--override={key}={value!r}" for key, value in FAMILIES[NAME].items()]
    result = subprocess.run(
        [*command, f"--model={NAME}", *overrides], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert re.search(rf"error: .*{saved.parent / name}", result.stderr), result.stderr
    assert not (saved.parent / name).exists()  # the same command works once there is room
    assert "Traceback" not in result.stderr
    left = {path.name for path in saved.parent.iterdir()}
    assert left - {f".{name}.unfinished"} == {saved.name}


def test_what_a_failed_attempt_has_left_is_replaced(tmp_path):
    (tmp_path / ".weights.unfinished" / "weights").mkdir(parents=True)
    save_weights(tmp_path / "weights", filled_model(NAME))
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_head_of_other_classes(saved, state_dict, caplog):
    model = filled_model(NAME, num_classes=5)
    head = {name: array for name, array in to_torch(model).items() if name.startswith("head.")}
    with pytest.raises(ValueError, match="weights does not fit the model: 2 misshapen"):
        load_weights(model, saved)
    with caplog.at_level(logging.INFO):
        load_weights(model, saved, strict=False)
    assert "left out the head (head/bias [3], head/kernel [16, 3])" in caplog.text
    assert_same(to_torch(model), state_dict | head)


def test_the_weights_of_another_model(saved):
    with pytest.raises(ValueError, match=r"weights does not fit the model: .* missing, .* extra"):
        load_weights(small_model("swin_tiny"), saved)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        read_weights(tmp_path / "gone")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match="checkpoints holds no finished checkpoint"):
        read_weights(tmp_path)


def test_a_checkpoint_of_something_else(tmp_path):
    ocp.save(tmp_path / "other", {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="other is damaged, or no checkpoint of weights"):
        read_weights(tmp_path / "other")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_metadata(saved):
    halve(saved / "state" / "_METADATA")
    with pytest.raises(ValueError, match="weights is damaged, or no checkpoint of weights"):
        read_weights(saved)


def test_damaged_arrays(saved):
    for path in (saved / "state" / "d").iterdir():
        halve(path)
    # In a process of its own: Orbax leaves threads behind that fail later.
    command = [sys.executable, "-m", "dwconv_jax.convert", saved, saved.parent / "x.pth"]
    result = subprocess.run([*command, f"--model={NAME}"], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"error: {saved} is damaged, or no checkpoint of weights" in result.stderr
    assert list(saved.parent.iterdir()) == [saved]
