"""The GPU benchmark on a CPU, at toy sizes, so that minutes on a GPU are not lost to a typo."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import hardware, programs
from benchmarks.gpu.candidates import CHOICES
from benchmarks.gpu.stages import correctness, models, operators
from benchmarks.gpu.stages.case import Settings
from dwconv_jax import list_models

REPOSITORY = Path(__file__).parents[3]
# What a machine with a GPU for a few minutes need not install.
ABSENT = ("clu", "ml_collections", "tensorflow", "tensorflow_datasets")


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """The rows of each stage by case, and what was printed."""
    out = tmp_path_factory.mktemp("gpu")
    absent = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n"
    (out / "sitecustomize.py").write_text(absent)
    command = [sys.executable, "-m", "benchmarks.gpu.hardware", "--dry-run", f"--out={out}"]
    command.append("--torch-python=false")  # an interpreter without PyTorch
    # Without the tests' XLA_FLAGS, which compile no products of bfloat16.
    environment = os.environ | {"PYTHONPATH": f"{out}:{REPOSITORY}", "XLA_FLAGS": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    rows = defaultdict(lambda: defaultdict(dict))
    for line in (out / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["stage"]][row["case"]].update(row)
    return rows, ended.stdout


def test_every_stage_runs(dry_run):
    rows, printed = dry_run
    assert list(rows) == list(hardware.SHARES)
    assert all(f"## {stage}" in printed for stage in rows)
    cases = [case for stage in rows.values() for case in stage.values()]
    assert not [case for case in cases if "error" in case or "cut" in case]


def test_the_ceilings_are_measured(dry_run):
    ceilings = dry_run[0]["ceilings"]
    assert ceilings["copy, bfloat16"]["TB/s"] > 0
    assert ceilings["product, bfloat16"]["TFLOP/s"] > 0
    assert "jaxlib" in ceilings["versions"]["versions"]


def test_every_lowering_is_checked_and_timed(dry_run):
    for choice in CHOICES:
        checked = dry_run[0]["correctness"][f"static 3x3, 3x9x14x34: lowering={choice}"]
        assert {"float32 gradients", "bfloat16 gradients"} < set(checked)
        timed = dry_run[0]["operators"][f"static 3x3, 6x6x32: lowering={choice}"]
        assert {"forward us", "input gradient of copy", "weight gradient us"} < set(timed)
        checked = dry_run[0]["correctness"][f"neighborhoods 3x3, 2x9x14x2x16: lowering={choice}"]
        assert {"float32 gradients", "bfloat16 gradients"} < set(checked)
        timed = dry_run[0]["operators"][f"neighborhoods 3x3, 6x6, 1 heads: lowering={choice}"]
        assert {"forward us", "forward + gradients of copy"} < set(timed)


def test_the_cpu_computes_the_same_losses(dry_run):
    digits = dry_run[0]["digits"]
    if importlib.util.find_spec("sklearn") is None:
        assert digits["scikit-learn"]["skipped"] == "it is not installed"
    else:
        assert digits["digits, float32"]["difference in 3 steps"] == 0


def test_peers_that_are_not_installed_have_a_line(dry_run):
    assert "has no torch" in dry_run[0]["operators"]["torch"]["skipped"]
    assert "has no timm" in dry_run[0]["models"]["timm"]["skipped"]


def test_networks_are_timed(dry_run):
    step = dry_run[0]["models"]["dwnet_tiny, training step, 2 images: ours"]
    assert {"images/s", "peak GB", "compile s"} < set(step)


@pytest.mark.parametrize("stage", [correctness, operators, models])
def test_no_two_real_cases_share_a_name(stage):
    names = [
        case.name for case in stage.cases(Settings(dry_run=False, torch_python=sys.executable))
    ]
    assert len(set(names)) == len(names) > 10


def test_the_real_models_exist():
    missing = set(models.MODELS) - set(list_models())
    assert missing <= {"convnext_tiny"}


def test_a_wrong_result_is_an_error():
    [problem, *_] = correctness.problems(dry_run=True).values()
    wrong = problem._replace(candidates={"twice": lambda *arrays: 2 * problem.definition(*arrays)})
    cells = {}
    for row in correctness.check(wrong, "twice"):
        cells |= row
    assert cells["float32 forward"] == pytest.approx(1, abs=0.01)
    assert "allowed" in cells["error"]


def test_a_result_that_is_not_finite_is_wrong():
    assert correctness.relative_error(np.array([1, np.nan]), np.ones(2)) == np.inf


def test_without_a_gpu_it_says_so(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu.hardware", f"--out={tmp_path}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPOSITORY)
    assert ended.returncode == 3
    assert "no GPU here, only 'cpu'; --dry-run runs on any machine" in ended.stderr


def test_rows_of_pytorch(monkeypatch):
    answers = iter([
        {"s": 2e-6, "captured": True},
        {"error": "RuntimeError: no kernel"},
        {"s": 4e-6, "captured": False},
    ])  # fmt: skip
    monkeypatch.setattr(programs.torch_peer, "ask", lambda *question, **details: next(answers))
    monkeypatch.setattr(programs, "copy_bandwidth", lambda settings: 1e9)
    settings = Settings(dry_run=True, torch_python="python")
    operations = programs.bilinear((1, 4, 4, 8), (1, 1, 1, 9, 8))
    case = programs.pytorch("PyTorch", operations, settings, "convolution")
    moved = 2 * (2 * 4 * 4 * 8 + 9 * 8)
    assert list(case.run()) == [
        {"forward us": 2, "forward of copy": moved / 2e-6 / 1e9},
        {"error": "input gradient: RuntimeError: no kernel"},
        {"weight gradient us": 4, "weight gradient of copy": moved / 4e-6 / 1e9},
        {"weight gradient": "timed without a CUDA graph"},
    ]
