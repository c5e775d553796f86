"""One trainer per workdir."""

import os
import subprocess
import sys

import pytest
from etils import epath

from dwconv_jax.errors import UserError
from dwconv_jax.training.lock import workdir_lock

_OWNER = """
import sys
from etils import epath
from dwconv_jax.training.lock import workdir_lock

with workdir_lock(epath.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_trainer_is_refused_and_a_dead_one_succeeded(tmp_path):
    workdir = epath.Path(tmp_path) / "run"
    command = [sys.executable, "-c", _OWNER, str(workdir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"locked\n"
        message = rf"run is in use: process {owner.pid} on .* trains there"
        with pytest.raises(UserError, match=message), workdir_lock(workdir):
            pass
        owner.kill()
    with workdir_lock(workdir):
        assert f"process {os.getpid()} on " in (workdir / ".lock").read_text()
    with workdir_lock(workdir):
        pass
