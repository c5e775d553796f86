"""Prediction and export need the workdir of a run alone."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from orbax.checkpoint import v1 as ocp
from PIL import Image

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.inference.export import export_run
from dwconv_jax.inference.predict import predict
from dwconv_jax.inference.trained import load_trained
from dwconv_jax.tasks.registry import Task
from dwconv_jax.tasks.summary import Summary
from dwconv_jax.training.description import read_evaluation

pytest.importorskip("matplotlib")


@pytest.fixture
def moved_run(trained_run, tmp_path):
    """A copy of a run whose data set has been moved away."""
    workdir = tmp_path / "run"
    shutil.copytree(trained_run[1], workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["dataset"]["data_dir"] = str(tmp_path / "gone")
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (20, 30), 99).save(folder / "a.png")
    return folder


def test_the_data_set_is_not_needed(moved_run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "open", lambda config: pytest.fail("opened the data"))
    predict(str(moved_run), str(pictures), str(tmp_path / "out"))
    export_run(str(moved_run), str(tmp_path / "model.jaxexport"))
    assert (tmp_path / "out" / "predictions.csv").exists()
    assert json.loads((tmp_path / "model.json").read_text())["classes"] == list("0123456789")
    assert not (tmp_path / "gone").exists()


def test_only_parameters_are_read(trained_run, monkeypatch):
    """The template names no optimizer state, and nothing loads a whole checkpoint."""
    templates, load = [], ocp.load

    def recorded(path, template):
        templates.append(template)
        return load(path, template)

    monkeypatch.setattr(ocp, "load", recorded)
    monkeypatch.setattr(ocp.training.Checkpointer, "load", lambda *_: pytest.fail("loaded all"))
    trained = load_trained(str(trained_run[1]))
    (template,) = templates
    assert template.keys() == {"params", "batch_stats"} and trained.step == 12


def test_a_run_is_loaded_with_its_preprocessing_and_its_classes(
    trained_run, pictures, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(trained_run[1].parent))
    for workdir in (str(trained_run[1]), f"~/{trained_run[1].name}"):
        trained = dwconv_jax.load(workdir, checkpoint="best")
        assert trained.class_names == tuple("0123456789")
        batch = trained.read_picture(str(pictures / "a.png"))
        logits = trained.predict(batch)
        expected = jax.jit(lambda x, model=trained.model: model(x))(batch["image"])
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert batch["image"].shape == (1, 8, 8, 1) and logits.shape == (1, 10)
    with pytest.raises(UserError, match="checkpoint must be one of 'latest', 'best', got 'newest'"):
        dwconv_jax.load(workdir, checkpoint="newest")


def test_a_picture_has_no_labels(trained_run, pictures):
    task = load_trained(str(trained_run[1])).task
    batch = task.read_picture(pictures / "a.png")
    assert {name: array.shape for name, array in batch.items()} == {"image": (1, 8, 8, 1)}


def test_a_config_must_be_that_of_the_run(trained_run):
    config, workdir = trained_run
    assert load_trained(str(workdir), config=config).step == 12
    other = config.copy_and_resolve_references()
    other.seed = 7
    with pytest.raises(ValueError, match=r"another config.*\n  seed: 0 there, 7 now"):
        load_trained(str(workdir), config=other)


def test_a_run_of_an_older_version_needs_its_data(moved_run, monkeypatch):
    (moved_run / "data.json").unlink()
    config = json.loads((moved_run / "config.json").read_text())
    del config["profile_steps"]
    (moved_run / "config.json").write_text(json.dumps(config))

    def missing(config):
        raise FileNotFoundError(f"{config.dataset.data_dir} is not there")

    with monkeypatch.context() as context:
        context.setattr(Task, "open", missing)
        with pytest.raises(ValueError, match="gone is not there; or resume the run once"):
            load_trained(str(moved_run))
    assert load_trained(str(moved_run)).task.class_names == tuple("0123456789")


def test_damaged_checkpoints_are_passed_over(moved_run, caplog):
    for path in (moved_run / "checkpoints" / "12").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"damaged")
    with caplog.at_level("WARNING", "dwconv_jax"):
        assert load_trained(str(moved_run)).step == 10
    assert "skipping the damaged checkpoint" in caplog.text


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json does not exist: --workdir must be"):
        load_trained(str(tmp_path))


def test_a_saved_run_names_pictures_as_the_run_does(trained_run, tmp_path):
    """Through the model card's two lines, for a picture of another size than the digits."""
    trained = dwconv_jax.load(str(trained_run[1]))
    trained.save_pretrained(tmp_path / "saved", trained.card_info(license="mit"))
    model = dwconv_jax.create_model(pretrained=tmp_path / "saved")
    assert model.class_names == trained.class_names
    pixels = np.arange(20 * 30, dtype=np.uint32).reshape(20, 30) * 7919 % 256
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "picture.png")
    logits = trained.predict(trained.read_picture(tmp_path / "picture.png"))
    guesses = dwconv_jax.predict(model, tmp_path / "picture.png", top=10)
    expected = dict(zip(trained.class_names, jax.nn.softmax(logits[0]).tolist(), strict=True))
    assert dict(guesses) == pytest.approx(expected, abs=5e-3)  # PIL rounds pixels after resizing
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "| trained on | digits |" in card
    assert "| accuracy | 0." in card and "license: mit" in card
    assert "| class | precision % | recall % | f1 % | support |" in card
    assert (tmp_path / "saved" / "confusion_matrix.png").exists()


def test_an_earlier_checkpoint_has_its_metrics_alone(trained_run):
    workdir = epath.Path(trained_run[1])
    newest, earlier, never = (read_evaluation(workdir, step) for step in (12, 6, 7))
    assert len(newest.classes) == len(newest.confusion_matrix) == 10
    assert earlier.metrics.keys() == newest.metrics.keys() and not earlier.classes
    assert earlier.metrics != newest.metrics and never == Summary({})
