"""The task of point clouds: its loss, its evaluation, and a run of the training loop."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import p2p
from dwconv_jax.errors import UserError
from dwconv_jax.tasks.point_cloud.losses import smoothed_cross_entropy
from dwconv_jax.tasks.point_cloud.pictures import draw_cloud
from dwconv_jax.tasks.point_cloud.task import PointCloudClassification
from dwconv_jax.training import loop
from dwconv_jax.training.optimizer.patterns import matching
from dwconv_jax.training.run import prepare
from dwconv_jax.training.step import make_train_step
from tests.tasks.totals import totals


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Boxes: flat, long and cubic ones."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("h5")
    sides = np.array([[4, 1, 4], [1, 4, 1], [2, 2, 2]])
    for name, count in ("train", 16), ("test", 11):
        labels = rng.integers(3, size=count)
        with h5py.File(folder / f"{name}.h5", "w") as content:
            content["data"] = rng.uniform(size=(count, 40, 3)) * sides[labels][:, None]
            content["label"] = labels
    return folder


@pytest.fixture
def config(folder):
    config = p2p.get_config("modelnet40")
    config.model.update(name="dwnet_tiny", embed_dim=8, depths=(1, 1))
    config.model.prompt.update(image_size=16, object_size=12, neighbors=4, features=4)
    config.dataset.update(
        data_dir=str(folder), train_split="train.h5", eval_split="test.h5",
        class_names=("flat", "long", "cube"), cloud_size=40, num_points=24, eval_views=3,
    )  # fmt: skip
    config.num_epochs = 2
    config.batch_size = config.eval_batch_size = 8
    config.log_every_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    config.eval_every_epochs = config.checkpoint_every_epochs = None
    return config


def test_smoothing_spares_the_label():
    logits, label = jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.array([0])
    expected = -(0.8 * np.log(0.5) + 0.1 * np.log(0.3) + 0.1 * np.log(0.2))
    assert smoothed_cross_entropy(logits, label, 0.2)[0] == pytest.approx(expected)


def test_a_run_tunes_the_prompt_the_norms_and_the_head(config, tmp_path):
    metrics = loop.train(config, str(tmp_path))
    assert metrics.keys() == {"loss", "accuracy", "view_accuracy", "balanced_accuracy"}
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tensors("training/0")
    (first, _) = events.Tensors("predictions/0")
    width, height, _ = first.tensor_proto.string_val
    # Three views of 224 pixels, drawn and painted, below a line of text.
    assert (int(width), int(height)) == (3 * 232 - 8, 24 + 2 * 232 - 8)

    run = prepare(config, str(tmp_path))
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
    assert over_devices == pytest.approx(total(11, jax.devices()[0]), abs=1e-5)


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
    with pytest.raises(UserError, match=r"train\.h5, row \d+: a cloud with coordinates that are"):
        next(task.train_batches(0))


def test_drawings():
    line = np.stack([np.linspace(0, 1, 9)] * 3, -1)
    picture = draw_cloud(line)
    drawn = np.argwhere((picture < 255).any(-1))
    assert (drawn[:, 0] == drawn[:, 1]).all() and np.ptp(drawn[:, 0]) > 50
    # Nearer points are darker.
    assert picture[tuple(drawn[-1])].sum() < picture[tuple(drawn[0])].sum()
    draw_cloud(np.zeros((1, 3)))


def test_pictures_are_not_classified(config, tmp_path):
    task = PointCloudClassification.describe(config)
    with pytest.raises(UserError, match=r"a\.png: a model of point clouds classifies no pictures"):
        task.read_picture(tmp_path / "a.png")
