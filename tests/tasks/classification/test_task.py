import numpy as np
from ml_collections import ConfigDict

from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.tasks.registry import create_task
from dwconv_jax.training import base_config


def sheet_of(images, **mix):
    config = base_config()
    config.dataset.update(mean=(0.5,), std=(0.25,))
    config.mix.update(mix)
    task = object.__new__(Classification)
    task._config = ConfigDict(config)
    return task.draw_training({"image": images, "label": np.zeros(len(images), np.int32)})


def test_the_contact_sheet_shows_grey_images_as_stored():
    levels = np.linspace(0, 255, 100).round().astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (100, 60, 60, 1)) / 255.0
    sheet = sheet_of(((images - 0.5) / 0.25).astype(np.float32))
    assert sheet.shape == (8 * 61 - 1, 8 * 61 - 1, 3)
    centres = sheet[30::61, 30::61]
    np.testing.assert_array_equal(centres.reshape(64, 3), np.repeat(levels[:64, None], 3, 1))


def test_an_evaluation_batch_is_at_most_the_split(config):
    config.eval_batch_size = 100_000_000
    task = create_task(config)
    assert [batch["image"].shape[0] for batch in task.eval_batches()] == [360]  # of 8 devices
    task.dataset.num_eval = 355
    assert task.eval_batch_size == 360
    config.eval_batch_size = 8
    assert create_task(config).eval_batch_size == 8


def test_the_contact_sheet_shows_mixtures():
    signs = np.where(np.arange(64) % 2, 2.0, -2.0).astype(np.float32)  # black beside white
    images = np.broadcast_to(signs[:, None, None, None], (64, 60, 60, 3))
    assert set(np.unique(sheet_of(images, cutmix_alpha=1.0))) == {0, 255}
    tiles = sheet_of(images, mixup_alpha=1.0)[30::61, 30::61, 0]
    assert len(np.unique(tiles)) == 16  # every row has a share of its own, and its complement
