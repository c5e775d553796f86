"""A whole small study: its cells, its restarts, its command, its table and page."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from dwconv_jax.study import cells
from dwconv_jax.study.grid import cell_config
from dwconv_jax.study.page import write_study_page
from dwconv_jax.study.run import run_all
from dwconv_jax.study.table import Row, collect, markdown
from tests.study import small

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def study(data_dir):
    study = small.get_config()
    study.base.dataset.data_dir = data_dir
    return study


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, trained_run, data_dir):
    """Where the first cell was stopped between the end of its training and its result."""
    study = small.get_config()
    study.base.dataset.data_dir = data_dir
    workdir = epath.Path(tmp_path_factory.mktemp("study"))
    shutil.copytree(trained_run[1], workdir / "pooled" / "seed_0")
    cells.run_cell(study, workdir, 0)
    return workdir


def test_a_finished_cell_says_what_it_is(workdir, study):
    result = json.loads((workdir / "pooled" / "seed_0" / "result.json").read_text())
    logged = (workdir / "pooled" / "seed_0" / "metrics.jsonl").read_text().splitlines()
    assert result["accuracy"] == pytest.approx(json.loads(logged[-1])["accuracy"], abs=1e-6)
    speeds = [json.loads(line).get("images_per_second") for line in logged]
    assert result["step_ms"] == pytest.approx(464e3 / np.median([s for s in speeds[1:] if s]))
    assert result["parameters"] == 5_398 and result["device_count"] == 8


def test_a_finished_cell_is_not_run_again(workdir, study, monkeypatch):
    monkeypatch.setattr(cells.loop, "train", lambda *_: pytest.fail("trained again"))
    cells.run_cell(study, workdir, 0)
    study.base.batch_size = 232
    with pytest.raises(
        ValueError, match=r"result of another config.*\n  batch_size: 464 there, 232"
    ):
        cells.run_cell(study, workdir, 0)


def test_a_cell_that_is_not_there_is_refused(study, tmp_path):
    with pytest.raises(ValueError, match=r"--cell=2 must be in 0\.\.1"):
        cells.run_cell(study, epath.Path(tmp_path), 2)


# Stands for the command of a cell: it leaves what a run of the static cell leaves.
_PRETEND = """
import json, pathlib, sys

assert sys.argv[-1] == "--cell=1"
workdir, config = pathlib.Path(sys.argv[1]), sys.argv[2]
static = workdir / "static" / "seed_0"
static.mkdir(parents=True)
(static / "config.json").write_text(config)
result = json.loads((workdir / "pooled" / "seed_0" / "result.json").read_text())
(static / "result.json").write_text(json.dumps(result | {"parameters": 9_999}))
"""


def test_what_is_left_is_run_and_all_is_gathered(workdir, study, capsys):
    config = cell_config(study, 1, 0).to_json_best_effort()
    run_all(study, workdir, [sys.executable, "-c", _PRETEND, str(workdir), config], jobs=2)
    rows = list(csv.DictReader((workdir / "table.csv").read_text().splitlines()))
    assert [(row["cell"], row["parameters"]) for row in rows] == [
        ("pooled", "5398"),
        ("static", "9999"),
    ]
    assert (workdir / "table.md").read_text() in capsys.readouterr().out
    page = (workdir / "report.html").read_text()
    assert "Where do the weights come from?" in page and "A study of 2 models" in page
    assert "DWNet-T" not in page  # the paper's results belong to its own grids
    # Nothing is left now.
    run_all(study, workdir, ["no such program"], jobs=1)


def test_a_cell_that_fails_is_named(study, tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('out of memory')"]
    with pytest.raises(ValueError, match=r"2 cells failed: pooled, static; see .*/pooled\.log"):
        run_all(study, epath.Path(tmp_path), command, jobs=1)
    assert "out of memory" in (tmp_path / "static.log").read_text()


@pytest.mark.slow
def test_the_command_runs_a_study(tmp_path, data_dir):
    finished = call(f"--workdir={tmp_path}", f"--config.base.dataset.data_dir={data_dir}")
    assert finished.returncode == 0, finished.stderr
    assert "2 of 2 cells to run, 1 at a time" in finished.stderr
    assert "| static |" in finished.stdout and "| pooled |" in finished.stdout
    refused = call(f"--workdir={tmp_path}", "--cell=2")
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1] == "error: --cell=2 must be in 0..1"


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "dwconv_jax.study", "--config=tests/study/small.py", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
    )


def result(accuracy, **facts):
    made_up = dict(
        accuracy=accuracy, loss=1.0, parameters=31_978, multiply_adds=766_272, step_ms=12.0,
        wall_seconds=3.0, device="cpu", device_count=1,
    )  # fmt: skip
    return made_up | facts


def test_rows_are_means_and_spreads_over_seeds():
    row = Row("dw_static", [result(0.9), result(0.94), result(0.95, step_ms=40.0)])
    assert row.accuracy == pytest.approx(93) and row.spread == pytest.approx(np.sqrt(7))
    assert row.columns == ("dw_static", "93.00", "2.65", "3", "31,978", "766,272", "12.0")
    assert Row("one", [result(0.9)]).columns[1:4] == ("90.00", "", "1")
    assert markdown([row]).splitlines()[0].startswith("| cell | accuracy % | spread | seeds |")


def test_only_what_has_finished_is_shown(study, tmp_path):
    study.seeds = (0, 1)
    for seed, accuracy in ((0, 0.5), (1, None)):
        config = cell_config(study, 0, seed)
        directory = tmp_path / "pooled" / f"seed_{seed}"
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(config.to_json_best_effort())
        if accuracy is not None:
            (directory / "result.json").write_text(json.dumps(result(accuracy)))
    rows = collect(study, epath.Path(tmp_path))
    assert [(row.cell, len(row.results)) for row in rows] == [("pooled", 1)]
    write_study_page(epath.Path(tmp_path) / "report.html", study, rows)
    page = (tmp_path / "report.html").read_text()
    assert "1 of 2 cells on digits, 1 runs of 4 epochs" in page
    assert "Where do the weights come from?" not in page
    study.paper = True
    write_study_page(epath.Path(tmp_path) / "report.html", study, rows)
    page = (tmp_path / "report.html").read_text()
    assert "What matters in local attention?" in page and "DWNet-T" in page
