"""The command line: what the user mistypes ends in one sentence."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.batchsize=3"], 'no such field: .*Did you mean "batch_size"'),
        (["--config.optimizer.lr=1"], "no such field: .*lr"),
        (["--config.batch_size=many"], "config.batch_size=many: invalid literal for int"),
        (["--mode=compile"], "--mode=compile needs --topology"),
        (["--topology=v5e:4x4"], "the other modes need --workdir, and no --topology"),
        (["--mode=compile", "--topology=v9:4x4"], "topology='v9:4x4' is unknown; legal are"),
        (["--mode=predict"], "--mode=predict needs --images and --out"),
        (["--mode=fly"], "mode=fly: value should be one of <train|eval|predict|compile>"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message, tmp_path):
    command = [sys.executable, "main.py", "--config=tests/training/tiny.py", *arguments]
    result = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and re.search(message, last), result.stderr
    assert not (tmp_path / "run").exists()
