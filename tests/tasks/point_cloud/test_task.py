"""The task of point clouds: its loss, its evaluation, and a run of the training loop."""

import csv

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dwconv_jax
from configs import p2p
from dwconv_jax.errors import UserError
from dwconv_jax.inference.predict import predict
from dwconv_jax.tasks.point_cloud.losses import smoothed_cross_entropy
from dwconv_jax.tasks.point_cloud.pictures import draw_cloud
from dwconv_jax.tasks.point_cloud.task import PointCloudClassification
from dwconv_jax.training import loop
from dwconv_jax.training.optimizer.patterns import matching
from dwconv_jax.training.run import prepare
from dwconv_jax.training.step import make_train_step
from tests.tasks.totals import totals

# Of boxes: flat, long and cubic ones.
SIDES = np.array([[4, 1, 4], [1, 4, 1], [2, 2, 2]])


def write_boxes(file, count, label_shape, dtype, **more):
    """Writes boxes as a published file holds shapes; `more` are its other arrays."""
    rng = np.random.default_rng(count)
    labels = rng.integers(3, size=count)
    with h5py.File(file, "w") as content:
        boxes = rng.uniform(size=(count, 2048, 3)) * SIDES[labels][:, None]
        content["data"] = boxes.astype(np.float32)
        content["label"] = labels.reshape(label_shape).astype(dtype)
        for name, array in more.items():
            content[name] = array


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both data sets under their published names, with all that their files hold."""
    folder = tmp_path_factory.mktemp("h5")
    for name, count in ("train0", 8), ("train1", 8), ("test0", 6), ("test1", 5):
        more = dict(faceId=np.zeros((count, 2048), np.int32), normal=np.zeros((count, 2048, 3)))
        write_boxes(folder / f"ply_data_{name}.h5", count, (-1, 1), np.uint8, **more)
    for name, count in ("training", 16), ("test", 5):
        file = folder / f"{name}_objectdataset_augmentedrot_scale75.h5"
        write_boxes(file, count, -1, np.int32, mask=np.zeros((count, 2048), np.int32))
    return folder


def tiny_config(variant, folder):
    config = p2p.get_config(variant)
    config.model.update(name="dwnet_tiny", embed_dim=8, depths=(1, 1))
    config.model.prompt.update(image_size=16, object_size=12, neighbors=4, features=4)
    config.dataset.update(data_dir=str(folder), cloud_size=40, num_points=24, eval_views=3)
    config.num_epochs = 2
    config.batch_size = config.eval_batch_size = 8
    config.log_every_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    config.eval_every_epochs = config.checkpoint_every_epochs = None
    return config


@pytest.fixture
def config(folder):
    """Of ScanObjectNN; `trained` is of ModelNet40, so that both data sets are trained on."""
    return tiny_config("scanobjectnn", folder)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Config, workdir and metrics of a run of four steps."""
    config, workdir = tiny_config("modelnet40", folder), tmp_path_factory.mktemp("run")
    return config, workdir, loop.train(config, str(workdir))


def test_smoothing_spares_the_label():
    logits, label = jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.array([0])
    expected = -(0.8 * np.log(0.5) + 0.1 * np.log(0.3) + 0.1 * np.log(0.2))
    assert smoothed_cross_entropy(logits, label, 0.2)[0] == pytest.approx(expected)


def test_a_run_tunes_the_prompt_the_norms_and_the_head(trained):
    config, workdir, metrics = trained
    assert metrics.keys() == {"loss", "accuracy", "view_accuracy", "balanced_accuracy"}
    events = EventAccumulator(str(workdir)).Reload()
    assert events.Tensors("training/0")
    (first, _) = events.Tensors("predictions/0")
    width, height, _ = first.tensor_proto.string_val
    # Three views of 224 pixels, drawn and painted, below a line of text.
    assert (int(width), int(height)) == (3 * 232 - 8, 24 + 2 * 232 - 8)

    run = prepare(config, str(workdir))
    with jax.set_mesh(run.mesh):
        before, after = run.initial_state(), run.restore_state()
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, after.params)
    assert moved == matching(moved, (p2p.TRAINED,), "train_only")
    assert set(jax.tree.leaves(moved)) == {True, False}


@pytest.fixture
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def test_evaluation_does_not_depend_on_devices_or_padding(config, mesh):
    task = PointCloudClassification.open(config)
    total = totals(task, config)
    over_devices = total(8, NamedSharding(mesh, PartitionSpec("data")))
    assert over_devices == pytest.approx(total(5, jax.devices()[0]), abs=1e-5)


def test_steps_on_1_and_8_devices_agree(config, mesh, tmp_path):
    run = prepare(config, str(tmp_path))
    step = make_train_step(
        run.task, run.model, run.optimizer, run.schedule, seed=0, accumulation_steps=1
    )
    batch = next(run.task.train_batches(0))
    with jax.set_mesh(run.mesh):
        state = jax.device_get(run.initial_state())

    def metrics(sharding):
        placed = jax.device_put(batch, sharding)
        return {name: float(x) for name, x in jax.jit(step)(state, placed)[1].items()}

    one = metrics(jax.devices()[0])
    eight = metrics(NamedSharding(mesh, PartitionSpec("data")))
    assert eight == pytest.approx(one, rel=1e-4)


def test_clouds_that_are_not_finite_stop_the_run(config, folder, tmp_path):
    task = PointCloudClassification.open(config)
    read = task.dataset._source.train.read
    object.__setattr__(task.dataset._source.train, "read", lambda e: read(e) / 0)
    with pytest.raises(UserError, match=r"training_.*h5, row \d+: a cloud with coordinates that"):
        next(task.train_batches(0))


def test_drawings():
    line = np.stack([np.linspace(0, 1, 9)] * 3, -1)
    picture = draw_cloud(line)
    drawn = np.argwhere((picture < 255).any(-1))
    assert (drawn[:, 0] == drawn[:, 1]).all() and np.ptp(drawn[:, 0]) > 50
    # Nearer points are darker.
    assert picture[tuple(drawn[-1])].sum() < picture[tuple(drawn[0])].sum()
    draw_cloud(np.zeros((1, 3)))


def test_files_are_predicted(trained, folder, tmp_path, caplog):
    """By the command, and by the saved model."""
    _, workdir, _ = trained
    clouds, out = tmp_path / "clouds", tmp_path / "out"
    (clouds / "sub").mkdir(parents=True)
    with h5py.File(folder / "ply_data_test0.h5") as content:
        np.save(clouds / "sub" / "a.npy", content["data"][0])
    (clouds / "b.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 4 0\nf 1 2 3")
    np.save(clouds / "c.npy", np.full((9, 3), np.nan))
    with pytest.raises(UserError, match=r"^1 of 3 clouds could not be read: .*c\.npy must be fin"):
        predict(str(workdir), str(clouds), str(out))
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cloud"] for row in rows] == ["b.obj", "sub/a.npy"]
    for name in ("b.png", "sub/a.png"):
        with Image.open(out / name) as views:
            assert views.size == (3 * 232 - 8, 24 + 2 * 232 - 8)

    dwconv_jax.load(str(workdir)).save_pretrained(tmp_path / "saved")
    model = dwconv_jax.create_model(pretrained=tmp_path / "saved")
    for row in rows:
        (best,) = dwconv_jax.predict(model, clouds / row["cloud"], top=1)
        assert best.name == row["class_1"]
        assert best.probability == pytest.approx(float(row["probability_1"]), abs=1e-4)


def test_a_folder_without_clouds_is_named(trained, tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(FileNotFoundError, match=r"no clouds; legal file names end in \.npy, \.obj"):
        predict(str(trained[1]), str(tmp_path), str(tmp_path / "out"))
