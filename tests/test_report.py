"""The page of a run: whole, self-contained, and of the run's own numbers."""

import os
import re
import shutil

import numpy as np
import pytest

from dwconv_jax.cli.report import main
from dwconv_jax.inference.evaluate import Evaluation
from dwconv_jax.inference.trained import TrainedModel
from dwconv_jax.report import write_report
from dwconv_jax.report_sections import results
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.tasks.summary import Summary

pytest.importorskip("matplotlib")


def test_the_page_holds_the_run(trained_run):
    _, workdir = trained_run
    page = write_report(str(workdir)).read_text()
    headings = re.findall("<h2>(.*)</h2>", page)
    assert headings == [
        "Curves", "Metrics", "Confusion matrix", "Classes", "Mistakes", "Attributions",
        "Weights", "Feature maps",
        "Effective receptive field", "Config",
    ]  # fmt: skip
    accuracy = re.search(r"tiny after 12 steps .*: accuracy ([\d.]+)% on 360", page).group(1)
    logged = (workdir / "metrics.jsonl").read_text().splitlines()[-1]
    assert np.isclose(
        float(accuracy) / 100, float(re.search('"accuracy": ([^,]+)', logged)[1]), atol=1e-4
    )
    names = re.findall(r"<figcaption>(.*?)<br>true: (\d)<br>predicted: (?!\2)\d<br>p = 0", page)
    assert len(names) == 24 == len({name for name, _ in names})
    assert re.fullmatch(r"example \d+ of &#39;digits&#39;, split &#39;test&#39;", names[0][0])
    assert page.count("data:image/png;base64,") == 7 + len(names)
    assert "<th>precision %</th><th>recall %</th><th>f1 %</th><th>support</th>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<td>model.name</td><td>dynamic_dwnet_tiny</td>" in page


def test_other_tasks_show_scores_and_predictions(config):
    """The sections of a segmentation, from an evaluation made up."""
    classes = [
        {"name": "ground", "iou": 0.9, "recall": 1.0, "pixels": 12_345_678},
        {"name": "tree", "iou": None, "recall": None, "pixels": 0},
    ]
    summary = Summary({"mean_iou": 0.9}, classes, [[12_345_678, 0], [0, 0]])
    picture = np.full((8, 24, 3), 99, np.uint8)
    evaluation = Evaluation(summary, 2, {}, [picture, picture], [])
    sections = results(TrainedModel(config, None, None, 0, None), evaluation)
    headings = ["Metrics", "Confusion matrix", "Classes", "Predictions"]
    assert [section.heading for section in sections] == headings
    assert sections[2].table == [
        ("class", "iou %", "recall %", "pixels"),
        ("ground", "90.0", "100.0", "12,345,678"),
        ("tree", "", "", "0"),
    ]
    assert sections[3].figures == [picture, picture]


def test_without_the_data_the_page_has_the_rest(trained_run, tmp_path, monkeypatch):
    def missing(config):
        raise FileNotFoundError("digits is not there")

    workdir = tmp_path / "run"
    shutil.copytree(trained_run[1], workdir)
    monkeypatch.setattr(Classification, "open", missing)
    page = write_report(str(workdir)).read_text()
    headings = re.findall("<h2>(.*)</h2>", page)
    assert headings == ["Curves", "Evaluation", "Config"]  # its kernels are predicted
    assert "has no scores" in page and "digits is not there" in page


def test_a_page_that_cannot_be_written_leaves_the_old_one(trained_run, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    def missing(config):
        raise FileNotFoundError("digits is not there")

    workdir = tmp_path / "run"
    shutil.copytree(trained_run[1], workdir)
    (workdir / "report.html").write_text("old")
    monkeypatch.setattr(Classification, "open", missing)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/report\.html'"):
        write_report(str(workdir))
    assert (workdir / "report.html").read_text() == "old"


def test_what_is_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"error: .*config.json does not exist: --workdir must be"):
        main([f"--workdir={tmp_path}"])
