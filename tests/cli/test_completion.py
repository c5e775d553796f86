"""What bash offers after the script has been sourced."""

import subprocess

import pytest

from dwconv_jax.cli import completion

_ASK = """
COMP_WORDS=({words}) COMP_CWORD={last}
_dwconv_jax
echo ${{COMPREPLY[@]}}
"""


@pytest.fixture(scope="module")
def script():
    return completion.script()


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
def test_what_bash_offers(script, words, offered):
    ask = _ASK.format(words=" ".join(f"'{word}'" for word in words), last=len(words) - 1)
    result = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.split() == offered.split()
