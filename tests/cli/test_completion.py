"""What shells offer after the script has been sourced."""

import contextlib
import os
import pty
import shutil
import subprocess
import time

import pytest

from dwconv_jax.cli import completion
from dwconv_jax.cli.main import COMMANDS

_ASK_BASH = """
COMP_WORDS=({words}) COMP_CWORD={last}
_dwconv_jax
echo ${{COMPREPLY[@]}}
"""
# An interactive shell, in which Ctrl-X writes the line to a file and empties it.
_START_ZSH = """\
autoload -U compinit; compinit -u -d dump
source script
show() { print -r -- "$BUFFER" >> lines; BUFFER= }
zle -N show; bindkey '^X' show
touch lines
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["dwconv-jax", "tr"], "train"),
        (["/bin/dwconv-jax", "mod"], "models"),
        (["dwconv-jax", "predict", "--workdir", "r", "--i"], "--images"),
        (["dwconv-jax", "train", "--config", "dig"], "digits"),
        (["dwconv-jax", "train", "--config", "=", "cifar"], "cifar10"),
        (["dwconv-jax", "convert", "a", "b", "--model", "=", "dwnet"], "dwnet_tiny dwnet_base"),
        (["dwconv-jax", "models", "halonet"], "halonet26t halonet50ts"),
        (["dwconv-jax", "train", "--workdir", "=", "x"], ""),  # files: bash's own
    ],
)
def test_what_bash_offers(words, offered):
    ask = _ASK_BASH.format(words=" ".join(f"'{word}'" for word in words), last=len(words) - 1)
    command = ["bash", "-c", completion.script("bash") + ask]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.split() == offered.split()


LINES = {
    "dwconv-jax tr": "train",
    "dwconv-jax train --config dig": "digits",
    "dwconv-jax train --config=dig": "--config=digits",
    "dwconv-jax predict --workdir=r --i": "--images",
    "dwconv-jax convert a b --model=dwnet_b": "--model=dwnet_base",
    "dwconv-jax models halonet5": "halonet50ts",
    "dwconv-jax train --workdir run": "runs/",
}


def test_what_fish_offers(tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    (tmp_path / "script").write_text(completion.script("fish"))
    (tmp_path / "runs").mkdir()
    ask = "\n".join(f"complete --do-complete '{line}'" for line in LINES)
    command = ["fish", "--no-config", "-c", f"source script\n{ask}"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert [line.partition("\t")[0] for line in result.stdout.splitlines()] == [*LINES.values()]


def test_what_zsh_offers(tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "script").write_text(completion.script("zsh"))
    (tmp_path / "runs").mkdir()
    keyboard, terminal = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=tmp_path,
        env=os.environ | {"TERM": "dumb"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.set_blocking(keyboard, False)
    written = tmp_path / "lines"
    try:
        os.write(keyboard, _START_ZSH.encode())
        _wait_for(written.exists, keyboard)
        for i, line in enumerate(LINES, start=1):
            os.write(keyboard, f"{line}\t\x18".encode())
            _wait_for(lambda i=i: len(written.read_text().splitlines()) == i, keyboard)
    finally:
        shell.kill()
        shell.wait()
        os.close(keyboard)
        os.close(terminal)
    found = [line.split()[-1] for line in written.read_text().splitlines()]
    assert found == [*LINES.values()]


def _wait_for(condition, keyboard):
    """Waits, and reads what the shell shows, which would otherwise wait for its reader."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        with contextlib.suppress(BlockingIOError):
            os.read(keyboard, 2**16)
        time.sleep(0.02)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_offered(shell, capsys):
    completion.main([shell])
    script = capsys.readouterr().out
    assert " ".join(COMMANDS) in script
