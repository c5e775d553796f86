"""The command line: mistakes end in one line, bugs in a traceback."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.batchsize=3"], "unknown field config.batchsize; did you mean 'batch_size'?"),
        (["--mode=eval", "--topology=v5e:4x4"], "Unknown command line flag 'topology'"),
        (["--mode=fly"], "argument --mode: invalid choice: 'fly'"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    result = run("main.py", "--config=tests/training/tiny.py", *arguments, f"--workdir={workdir}")
    assert_one_line(result, message)
    assert not workdir.exists()


def test_an_unknown_topology_is_named():
    compile_ = ["main.py", "--mode=compile", "--config=tests/training/tiny.py"]
    result = run(*compile_, "--topology=v9:4x4")
    assert_one_line(result, "topology='v9:4x4' is unknown; legal are")


def assert_one_line(result, message):
    assert result.returncode == 1
    (line,) = messages(result)
    assert line.startswith("error: ") and re.search(message, line), result.stderr


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )


def messages(result):
    """The lines on stderr, without TensorFlow's notes."""
    lines = result.stderr.strip().splitlines()
    return [line for line in lines if not re.match(r"WARNING: All log|[IWE]\d{4} ", line)]


def test_training_needs_a_config_and_prediction_a_run(tmp_path):
    result = run("main.py", f"--workdir={tmp_path}")
    assert_one_line(result, "the following arguments are required: --config")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    folders = (f"--{name}={tmp_path}" for name in ("workdir", "images"))
    result = run("main.py", "--mode=predict", *folders, f"--out={tmp_path / 'out'}")
    assert result.returncode == 1
    assert messages(result) == [
        f"error: {tmp_path}/config.json does not exist: --workdir must be that of a run"
    ]


_WITH_A_BUG = """
import runpy, sys, types

def train(config, workdir):
    raise ValueError("of the package")

sys.modules["dwconv_jax.training.loop"] = types.SimpleNamespace(train=train)
sys.argv = ["main.py", "--config=tests/training/tiny.py", "--workdir=unused"]
runpy.run_path("main.py", run_name="__main__")
"""


def test_a_bug_in_the_package_shows_its_traceback():
    result = run("-c", _WITH_A_BUG)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "ValueError: of the package" in result.stderr
    assert "Please report it with the command" in messages(result)[-1]
