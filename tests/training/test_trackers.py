"""Trackers keep a run's record, each in its offline mode; `make test-extras` runs this file."""

import json
import sys

import numpy as np
import pytest
from etils import epath

from dwconv_jax.errors import UserError
from dwconv_jax.training import loop
from dwconv_jax.training.config import base_config, validate
from dwconv_jax.training.trackers.names import TRACKERS
from dwconv_jax.training.trackers.registry import find_trackers
from dwconv_jax.training.trackers.tracker import read_id, write_id
from dwconv_jax.training.writers import MetricLog

PICTURE = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)


def write_run(name, workdir, first_step):
    """What training writes: texts, pictures, and scalars of two steps."""
    (open_tracker,) = find_trackers([name])
    workdir.mkdir(exist_ok=True)
    path = epath.Path(workdir)
    log = MetricLog(path, first_step, [lambda: open_tracker(path, base_config())])
    log.write_text(first_step, "parameters", "<pre>a</pre>")
    log.write_pictures(first_step, "training", [PICTURE])
    for step in (first_step + 1, first_step + 2):
        log.write(step, "train", {"loss": 1 / step})
    log.close()


@pytest.fixture
def resumed(request, tmp_path, monkeypatch):
    """The workdir of a run that resumed once, and what its tracker is to call it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    workdir = tmp_path / "digits"
    for first_step in (0, 2):
        write_run(request.param, workdir, first_step)
    return workdir, json.loads((workdir / "trackers.json").read_text())[request.param]


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's use of SQLAlchemy
@pytest.mark.parametrize("resumed", ["mlflow"], indirect=True)
def test_mlflow_continues_a_run(resumed):
    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("dwconv-jax").experiment_id])
    assert (run.info.run_id, run.info.run_name) == (resumed[1], "digits")
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.b1"] == "0.9"
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in losses] == [1, 2, 3, 4]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"images", "parameters.html"}


@pytest.mark.extras
@pytest.mark.parametrize("resumed", ["trackio"], indirect=True)
def test_trackio_continues_a_run(resumed):
    from trackio import SQLiteStorage

    workdir, name = resumed
    assert SQLiteStorage.get_runs("dwconv-jax") == [name]
    assert SQLiteStorage.get_run_config("dwconv-jax", name)["optimizer"]["b1"] == 0.9
    entries = SQLiteStorage.get_logs("dwconv-jax", name)
    assert [e["step"] for e in entries if "train/loss" in e] == [1, 2, 3, 4]
    assert len(list((workdir.parent / "trackio").rglob("*.png"))) == 2


@pytest.mark.extras
@pytest.mark.parametrize("resumed", ["wandb"], indirect=True)
def test_wandb_continues_a_run(resumed):
    workdir, record = resumed
    parts = sorted((workdir / "wandb").glob(f"offline-run-*-{record}"))
    assert len(parts) == 2  # which `wandb sync` joins by their id
    for part in parts:
        content = (part / f"run-{record}.wandb").read_bytes()
        assert b"train/loss" in content and b"optimizer" in content
        assert len(list(part.glob("files/media/images/*/*.png"))) == 1


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"dwconv_jax.training.trackers.{name}", raising=False)
    with pytest.raises(UserError, match=rf"'{name}', .* pip install 'dwconv-jax\[{name}\]'"):
        find_trackers([name])


def test_training_asks_for_the_package_before_it_starts(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config.writers = ("wandb",)
    with pytest.raises(UserError, match=r"dwconv-jax\[wandb\]"):
        loop.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("writers", [("tensorboard",), ("wandb", "wandb"), "wandb"])
def test_other_names_are_refused(writers):
    config = base_config()
    config.update({"writers": writers} if isinstance(writers, tuple) else {})
    if isinstance(writers, str):
        with config.ignore_type():
            config.writers = writers
    with pytest.raises(UserError, match=r"config\.writers=.* must be a tuple of names among"):
        validate(config)


def test_ids_are_kept_by_tracker(tmp_path):
    workdir = epath.Path(tmp_path)
    assert read_id(workdir, "wandb") is None
    write_id(workdir, "wandb", "a")
    write_id(workdir, "mlflow", "b")
    assert (read_id(workdir, "wandb"), read_id(workdir, "mlflow")) == ("a", "b")


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "trackers.json").write_text('{"wandb": ')
    with pytest.raises(UserError, match=r"trackers\.json is damaged .*; delete it"):
        read_id(epath.Path(tmp_path), "wandb")
