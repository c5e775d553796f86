"""What the first import of the data and of TensorFlow settles, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

_PROGRAM = """
import json
import sys
from configs import ade20k, coco, digits

for module in ade20k, coco, digits:
    module.get_config()
from dwconv_jax import data

waits = "tensorflow" in sys.modules
data.load_classification
import dwconv_jax.training.loop
from tensorflow.python.util import _pywrap_util_port
import tensorflow_datasets as tfds

builders = [tfds.builder(name).name for name in ("digits", "scenes/digits")]
onednn = _pywrap_util_port.IsMklEnabled()
print(json.dumps({"waits": waits, "builders": builders, "onednn": onednn}))
"""
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}


def output_of(program: str, **environment: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.check_output(command, env={**_ENVIRONMENT, **environment}, text=True)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    # Among prepared data, tfds finds data sets that no builder is registered for.
    nothing_prepared = str(tmp_path_factory.mktemp("data"))
    return json.loads(output_of(_PROGRAM, TFDS_DATA_DIR=nothing_prepared).splitlines()[-1])


def test_configs_do_not_wait_for_tensorflow(settled: dict[str, object]) -> None:
    assert not settled["waits"]


def test_data_registers_its_builders(settled: dict[str, object]) -> None:
    assert settled["builders"] == ["digits", "scenes"]


def test_training_reads_its_data_without_onednn(settled: dict[str, object]) -> None:
    assert not settled["onednn"]


def test_a_user_may_ask_for_onednn() -> None:
    program = "import os, dwconv_jax.data; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    assert output_of(program, TF_ENABLE_ONEDNN_OPTS="1") == "1\n"
