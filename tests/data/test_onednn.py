"""How TensorFlow multiplies is settled when it is imported, so in a process of its own."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import dwconv_jax.training.loop
from tensorflow.python.util import _pywrap_util_port

print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.parametrize(
    ("asked_for", "enabled"), [({}, "False"), ({"TF_ENABLE_ONEDNN_OPTS": "1"}, "True")]
)
def test_training_reads_its_data_without_onednn_unless_asked(
    asked_for: dict[str, str], enabled: str
) -> None:
    others = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    output = subprocess.check_output(
        [sys.executable, "-c", _PROGRAM], env={**others, **asked_for}, text=True
    )
    assert output.split()[-1] == enabled
