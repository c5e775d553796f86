"""Corrupt files are named and left out, and everything else stays as it is."""

import itertools
import logging
import pathlib

import numpy as np
import pytest

from dwconv_jax import data
from dwconv_jax.data.classification.dataset import Batch
from dwconv_jax.data.unreadable import stand_in
from tests.data.conftest import MakeConfig

CROP = dict(augment="inception", random_erasing=0.25)
FULL = dict(**CROP, rand_augment_magnitude=9.0, rand_augment_std=0.5)


def spoil(config: MakeConfig, *names: str) -> None:
    for name in names:
        file = pathlib.Path(config().data_dir, name)
        file.write_bytes(file.read_bytes()[:-300] if file.suffix == ".JPEG" else b"no image")


def steps(dataset: data.ClassificationDataset, count: int, start: int = 0, **kwargs) -> list[Batch]:
    batches = dataset.train_batches(4, seed=0, start_step=start, **kwargs)
    return list(itertools.islice(batches, count))


def assert_same(actual: Batch, expected: Batch) -> None:
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], strict=True)


def test_a_neighbour_stands_in_and_the_stream_keeps_its_place(
    folder_config: MakeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dwconv_jax"), "propagate", True)
    whole = steps(data.load_classification(folder_config(augment="none")), 6)
    spoil(folder_config, "train/class2/image.png", "train/class3/image.JPEG")
    dataset = data.load_classification(folder_config(augment="none", max_unreadable=2))
    for batch, expected in zip(steps(dataset, 6), whole, strict=True):
        labels = expected["label"].tolist()
        for place, label in enumerate(labels):
            others = (labels[place ^ k] for k in range(4))
            stands_in = next(other for other in others if other not in (2, 3))
            assert batch["label"][place] == (stands_in if label in (2, 3) else label)
            if label not in (2, 3):
                np.testing.assert_array_equal(batch["image"][place], expected["image"][place])
            else:
                assert batch["image"][place].any()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2  # however often they are met
    for name in "class2/image.png", "class3/image.JPEG":
        assert any(f"/train/{name}: " in text and "skipping it" in text for text in warnings)
    assert "(2 of at most 2)" in warnings[1]


@pytest.mark.parametrize("spoilt", [False, True])
def test_resuming_the_full_recipe_gives_the_same_batches(
    folder_config: MakeConfig, spoilt: bool
) -> None:
    if spoilt:
        spoil(folder_config, "train/class1/image.JPEG")
    config = folder_config(**(CROP if spoilt else FULL), max_unreadable=1)
    whole = steps(data.load_classification(config), 5)
    resumed = steps(data.load_classification(config), 2, start=3)
    for actual, expected in zip(resumed, whole[3:], strict=True):
        assert_same(actual, expected)


def test_processes_share_the_batch_of_one(folder_config: MakeConfig) -> None:
    spoil(folder_config, "train/class5/image.JPEG")
    config = folder_config(max_unreadable=1)
    whole = steps(data.load_classification(config), 4)
    shares = [
        steps(data.load_classification(config), 4, process_index=i, process_count=2)
        for i in range(2)
    ]
    for expected, *parts in zip(whole, *shares, strict=True):
        for name in expected:
            both = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(both, expected[name])


def test_evaluation_masks_what_it_cannot_read(folder_config: MakeConfig) -> None:
    (whole,) = data.load_classification(folder_config()).eval_batches(5)
    spoil(folder_config, "test/class1/image.JPEG", "test/class4/image.png")
    dataset = data.load_classification(folder_config(max_unreadable=2))
    first, second, third = dataset.eval_batches(2)
    np.testing.assert_array_equal(first["mask"], [1, 0])
    np.testing.assert_array_equal(second["mask"], [1, 1])
    np.testing.assert_array_equal(third["mask"], [0, 0])
    assert not first["image"][1].any() and not third["image"].any()
    for batch, places in (first, [0]), (second, [0, 1]):
        for place in places:
            label = batch["label"][place]
            np.testing.assert_array_equal(batch["image"][place], whole["image"][label])


def test_too_many_are_an_error_that_names_the_last_one(folder_config: MakeConfig) -> None:
    spoil(folder_config, *(f"train/class{i}/image.png" for i in (0, 2, 4)))
    dataset = data.load_classification(folder_config(max_unreadable=2))
    message = "cannot read .*train/class.*; these are 3, more than config.dataset.max_unreadable=2"
    with pytest.raises(ValueError, match=message):
        steps(dataset, 2)


def test_a_batch_without_a_readable_example_is_an_error(folder_config: MakeConfig) -> None:
    spoil(folder_config, *(f"train/class{i}/image.png" for i in (0, 2, 4, 6)))
    spoil(folder_config, *(f"train/class{i}/image.JPEG" for i in (1, 3, 5, 7)))
    dataset = data.load_classification(folder_config(augment="none", max_unreadable=8))
    with pytest.raises(ValueError, match="not one example of a batch can be read"):
        steps(dataset, 1)


def test_neighbours_are_the_same_for_shares_of_a_batch() -> None:
    readable = np.array([i not in (1, 4, 5, 6) for i in range(8)])
    batch = {"place": np.arange(8), "readable": readable}
    whole = stand_in(batch)["place"]
    np.testing.assert_array_equal(whole, [0, 0, 2, 3, 7, 7, 7, 7])
    halves = [
        stand_in({k: v[part] for k, v in batch.items()}) for part in np.split(np.arange(8), 2)
    ]
    np.testing.assert_array_equal(np.concatenate([half["place"] for half in halves]), whole)
