"""The segmentation task: its loss, its evaluation, and a run of the training loop."""

import json
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import ade20k, scenes_segmentation
from dwconv_jax.data.builders.scenes import Scenes
from dwconv_jax.inference.export import export_run
from dwconv_jax.inference.onnx import onnx_program
from dwconv_jax.inference.predict import predict
from dwconv_jax.models import create_model
from dwconv_jax.tasks.segmentation.losses import pixel_cross_entropy
from dwconv_jax.tasks.segmentation.task import Segmentation
from dwconv_jax.training import loop
from dwconv_jax.training.config import validate
from tests.tasks.totals import totals


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module", autouse=True)
def few_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scenes.BUILDER_CONFIGS[0], "num_train", 32)
        patch.setattr(Scenes.BUILDER_CONFIGS[0], "num_test", 12)
        yield


def small_config(data_dir):
    config = scenes_segmentation.get_config()
    config.model.update(
        patch_size=4, embed_dim=8, depths=(1, 1, 1), head_features=8, auxiliary_features=8
    )
    config.dataset.data_dir = data_dir
    config.dataset.update(crop_size=32, scale=(32, 32))
    config.num_epochs = 2
    config.batch_size = 16
    config.eval_batch_size = 8
    config.optimizer.warmup_epochs = 0.5
    config.log_every_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    return config


@pytest.fixture
def config(data_dir):
    return small_config(data_dir)


@pytest.fixture(scope="module")
def finished(data_dir, few_scenes, tmp_path_factory):
    """The last metrics and the workdir of a run."""
    workdir = tmp_path_factory.mktemp("run")
    return loop.train(small_config(data_dir), str(workdir)), workdir


def test_ignored_pixels_count_in_the_mean():
    logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.25, 0.75]]]]))
    loss = pixel_cross_entropy(logits, jnp.array([[[0, 1]]]))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    loss = pixel_cross_entropy(logits, jnp.array([[[255, 1]]]))
    assert loss == pytest.approx(-np.log(0.75) / 2)


def test_a_run_is_seen_and_predicts(finished, tmp_path):
    metrics, workdir = finished
    assert metrics.keys() == {"mean_iou", "mean_accuracy", "pixel_accuracy"}
    assert all(0 <= value <= 1 for value in metrics.values())
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert evaluation["metrics"] == metrics and len(evaluation["confusion_matrix"]) == 11
    ious = [entry["iou"] for entry in evaluation["classes"] if entry["iou"] is not None]
    assert np.mean(ious) == pytest.approx(metrics["mean_iou"])
    events = EventAccumulator(str(workdir)).Reload()
    (sheet,) = events.Tensors("training/0")
    assert sheet.step == 0
    (first, _) = events.Tensors("predictions/0")
    width, height, _ = first.tensor_proto.string_val
    # Picture, labels, predicted labels, enlarged; and a legend.
    assert int(width) > 6 * 64 and int(height) == 2 * 64

    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    for name, size in (("a.png", (64, 48)), ("b.jpg", (40, 40)), ("b.png", (40, 40))):
        Image.new("RGB", size, (9, 99, 9)).save(pictures / name)
    predict(str(workdir), str(pictures), str(out), "best")
    assert sorted(path.name for path in out.iterdir()) == [
        "a.png", "a_overlay.png",
        "b.jpg.png", "b.jpg_overlay.png", "b.png.png", "b.png_overlay.png",
    ]  # fmt: skip
    labels = np.asarray(Image.open(out / "a.png"))
    assert (labels.shape, labels.dtype) == ((48, 64), np.uint8) and labels.max() <= 10

    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    (spoilt / "c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read .*c\.png"):
        predict(str(workdir), str(spoilt), str(out), "best")


def test_a_run_becomes_a_program(finished, tmp_path):
    out = tmp_path / "scenes.jaxexport"
    check_export(finished[1], out, "jax", "for cpu, cuda, tpu")
    program = jax.export.deserialize(bytearray(out.read_bytes()))
    assert program.call(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 32, 32, 11)


@pytest.mark.extras
def test_a_run_becomes_an_onnx_graph(finished, tmp_path):
    out = tmp_path / "scenes.onnx"
    check_export(finished[1], out, "onnx", "ONNX opset 21")
    logits = onnx_program(out.read_bytes())(np.zeros((3, 32, 32, 3), np.uint8))
    assert logits.shape == (3, 32, 32, 11)


def check_export(workdir, out, format, runs_on):
    message = export_run(str(workdir), str(out), format=format)
    assert f"upernet_dwnet_tiny, step 4, {runs_on}" in message
    assert re.search(r"ms for 1, \d+\.\d+ ms for 2 image", message)
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["input"] == {"dtype": "uint8", "shape": ["batch", 32, 32, 3]}
    assert about["output"] == "logits, float32 [batch, height, width, classes]"
    assert len(about["classes"]) == 11


def test_the_ground_keeps_its_colours_in_pictures(config, monkeypatch):
    monkeypatch.setattr(Segmentation, "_name", lambda self, picture, *maps: picture)
    task = Segmentation.open(config)
    batch = next(task.eval_batches())
    picture, *_ = task.draw(batch, np.zeros_like(batch["label"]))
    image, labelled, predicted = np.split(picture, 3, axis=1)
    np.testing.assert_array_equal(predicted, image)
    tinted, objects = (labelled != image).any(-1), batch["label"][0] != 0
    assert not tinted[~objects].any() and tinted[objects].mean() > 0.9


def test_pictures_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: there is no such folder"):
        predict(str(tmp_path), str(tmp_path / "none"), str(tmp_path), "best")


def test_evaluation_does_not_depend_on_devices_or_padding(config):
    """One picture a batch on one device, and batches of 8 over 8 devices, the last one padded."""
    task = Segmentation.open(config)
    total = totals(task, config)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    over_devices = total(8, NamedSharding(mesh, PartitionSpec("data")))
    assert over_devices == pytest.approx(total(1, jax.devices()[0]), abs=1e-4)


def test_the_batch_must_not_exceed_the_data(config):
    config.batch_size = 40
    with pytest.raises(ValueError, match="batch_size=40 exceeds the 32 examples"):
        Segmentation.open(config)


@pytest.mark.parametrize("variant", [name for name in ade20k.VARIANTS if name.endswith("tiny")])
def test_ade20k_describes_a_model(variant):
    config = ade20k.get_config(variant)
    validate(config)
    arguments = config.model.to_dict()
    name = arguments.pop("name")

    def build_and_call():
        return create_model(name, rngs=nnx.Rngs(0), **arguments)(jnp.zeros((1, 512, 512, 3)))

    assert jax.eval_shape(build_and_call).shape == (1, 512, 512, 150)


def test_ade20k_lists_its_variants():
    with pytest.raises(ValueError, match=r"must be one of 'dwnet_tiny'.*got 'dwnet'"):
        ade20k.get_config("dwnet")
