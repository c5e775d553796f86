"""The detection task: a run of the training loop, its evaluation, and what it refuses."""

import jax
import numpy as np
import pytest
from flax import nnx

from configs import coco, scenes_detection
from dwconv_jax.data.builders.scenes import Scenes
from dwconv_jax.tasks.detection.task import Detection
from dwconv_jax.training import loop
from dwconv_jax.training.config import validate
from tests.models.drawn import drawn


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def config(data_dir, monkeypatch):
    monkeypatch.setattr(Scenes.BUILDER_CONFIGS[0], "num_train", 16)
    monkeypatch.setattr(Scenes.BUILDER_CONFIGS[0], "num_test", 12)
    config = scenes_detection.get_config()
    config.model.update(embed_dim=8, depths=(1, 1), pyramid_features=8, hidden_features=8)
    config.model.settings.update(
        train_candidates=20,
        train_proposals=16,
        candidates=20,
        proposals=16,
        roi_samples=8,
        max_detections=20,
    )
    config.dataset.update(data_dir=data_dir, canvases=((32, 32),), scale=(32, 32))
    config.dataset.train_shortest = (32,)
    config.num_steps = 2
    config.batch_size = 16
    config.eval_batch_size = 8
    config.log_every_steps = config.eval_every_steps = config.checkpoint_every_steps = 2
    return config


@pytest.mark.slow  # minutes of compilation
def test_a_run_ends_with_the_metrics_of_its_checkpoint(config, tmp_path):
    metrics = loop.train(config, str(tmp_path))
    assert {"box_ap", "mask_ap", "box_ap_50"} <= metrics.keys()
    assert all(0 <= value <= 1 for value in metrics.values())
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


def test_predictions_are_in_pixels_of_the_original(config):
    task = Detection.open(config)
    model = drawn(lambda: task.create_model(nnx.Rngs(0)))
    graph, state = nnx.split(model)
    batch = next(task.eval_batches())

    @jax.jit
    def evaluate(state, batch):
        return task.evaluate(nnx.merge(graph, state), batch)

    _, found = evaluate(state, batch)
    assert {name: array.shape for name, array in found.items()} == {
        "boxes": (8, 20, 4),
        "scores": (8, 20),
        "classes": (8, 20),
        "masks": (8, 20, 28, 28),
    }
    assert 32 < float(np.max(found["boxes"])) <= 64
    pictures = task.draw(batch, jax.device_get(found))
    assert len(pictures) == 8 and all(p.dtype == np.uint8 for p in pictures)


@pytest.mark.parametrize("variant", coco.VARIANTS)
def test_configs_for_coco(variant):
    validate(coco.get_config(variant))


def test_micro_batches_are_refused(config):
    config.accumulation_steps = 2
    with pytest.raises(ValueError, match=r"config\.accumulation_steps=2 must be 1 for detection"):
        Detection.open(config)
