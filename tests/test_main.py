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
        (["--config.model.embd_dim=3"], "config.model.embd_dim; did you mean 'embed_dim'?"),
        (["--config.optimizer.lr=1"], "unknown field config.optimizer.lr$"),
        (["--config.batch_size=many"], "config.batch_size=many: invalid literal for int"),
        (["--mode=compile"], "--mode=compile needs --topology"),
        (["--topology=v5e:4x4"], "the other modes need --workdir, and no --topology"),
        (["--mode=compile", "--topology=v9:4x4"], "topology='v9:4x4' is unknown; legal are"),
        (["--mode=predict"], "--mode=predict needs --images and --out"),
        (["--mode=fly"], "mode=fly: value should be one of <train|eval|predict|compile>"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, tmp_path):
    result = run(
        "main.py",
        "--config=tests/training/tiny.py",
        *arguments,
        f"--workdir={tmp_path / 'run'}",
    )
    assert result.returncode == 1
    (line,) = messages(result)
    assert line.startswith("error: ") and re.search(message, line), result.stderr
    assert not (tmp_path / "run").exists()


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
    (line,) = messages(result)
    assert line.startswith("error: ") and "--mode=train and compile need --config" in line
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    folders = (f"--{name}={tmp_path}" for name in ("workdir", "images"))
    result = run("main.py", "--mode=predict", *folders, f"--out={tmp_path / 'out'}")
    assert result.returncode == 1
    assert messages(result) == [
        f"error: {tmp_path}/config.json does not exist: --workdir must be one of main.py"
    ]


def test_a_config_file_that_is_missing_is_named(tmp_path):
    result = run("main.py", "--config=gone.py", f"--workdir={tmp_path}")
    assert messages(result) == ["error: [Errno 2] No such file or directory: 'gone.py'"]


@pytest.mark.parametrize("bug", ["base_config().nothing", "{}['nothing']", "int('nothing')"])
def test_a_bug_in_a_config_file_shows_its_traceback(bug, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        f"from dwconv_jax.training import base_config\n\ndef get_config():\n    return {bug}\n"
    )
    result = run("main.py", f"--config={path}", f"--workdir={tmp_path}")
    assert result.returncode == 1
    assert f'File "{path}", line 4, in get_config' in result.stderr
    assert "nothing" in messages(result)[-2]
    assert messages(result)[-1] == "error: the config file raised the exception above"


_WITH_A_BUG = """
import runpy, sys
from dwconv_jax.training import loop

def train(config, workdir):
    raise ValueError("of the package")

loop.train = train
sys.argv = ["main.py", "--config=tests/training/tiny.py", "--workdir=unused"]
runpy.run_path("main.py", run_name="__main__")
"""


def test_a_bug_in_the_package_shows_its_traceback():
    result = run("-c", _WITH_A_BUG)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "ValueError: of the package" in result.stderr
    assert "Please report it with the command" in messages(result)[-1]
