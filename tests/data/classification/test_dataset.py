import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from dwconv_jax import data
from dwconv_jax.data.classification.dataset import Batch
from tests.data.conftest import MakeConfig

AUGMENTED = {"augment": "pad_crop_flip", "image_size": 16}


def keys(*batches: Batch) -> list[bytes]:
    """The examples of batches as sortable values."""
    return [
        image.tobytes() + label.tobytes()
        for batch in batches
        for image, label in zip(batch["image"], batch["label"], strict=True)
    ]


def assert_same(batch: Batch, expected: Batch) -> None:
    assert batch.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(batch[name], expected[name], strict=True)


def test_batches_are_normalised_float32(make_config: MakeConfig) -> None:
    raw = data.load_classification(make_config())
    scaled = data.load_classification(make_config(mean=(0.25,), std=(0.5,)))
    expected = next(raw.train_batches(32, seed=0))
    batch = next(scaled.train_batches(32, seed=0))
    assert batch["image"].shape == (32, 8, 8, 1)
    assert batch["image"].dtype == np.float32
    assert batch["label"].dtype == np.int32
    assert expected["image"].max() == 1
    np.testing.assert_allclose(batch["image"], (expected["image"] - 0.25) / 0.5, atol=1e-6)


def test_each_channel_is_normalised_with_its_own_numbers(folder_config: MakeConfig) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    (raw,) = data.load_classification(folder_config()).eval_batches(5)
    (batch,) = data.load_classification(folder_config(mean=mean, std=std)).eval_batches(5)
    expected = (raw["image"] - np.float32(mean)) / np.float32(std)
    np.testing.assert_allclose(batch["image"], expected, atol=1e-6)


# An epoch has 14 steps.
@pytest.mark.parametrize(("start_step", "shuffle_buffer"), [(1, 100), (14, 1437), (33, 100)])
def test_resuming_gives_the_same_batches_bit_for_bit(
    make_config: MakeConfig, shuffle_buffer: int, start_step: int
) -> None:
    config = make_config(**AUGMENTED, shuffle_buffer=shuffle_buffer)
    whole = data.load_classification(config).train_batches(100, seed=3)
    resumed = data.load_classification(config).train_batches(100, seed=3, start_step=start_step)
    for expected in itertools.islice(whole, start_step, start_step + 16):
        assert_same(next(resumed), expected)


@pytest.mark.parametrize("shuffle_buffer", [100, 1437])
def test_epochs_are_different_orders_without_repeats(
    make_config: MakeConfig, shuffle_buffer: int
) -> None:
    dataset = data.load_classification(make_config(shuffle_buffer=shuffle_buffer))
    batches = dataset.train_batches(100, seed=0)
    epochs = [keys(*itertools.islice(batches, 14)) for _ in range(3)]
    everything = set(keys(next(dataset.train_batches(1437, seed=0))))
    assert len(everything) == 1437
    for epoch in epochs:
        assert len(set(epoch)) == 1400
        assert set(epoch) <= everything
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert set(epochs[0]) != set(epochs[1])  # it is not always the same 37 that are left out


def test_a_full_shuffle_moves_examples_anywhere(digits: data.ClassificationDataset) -> None:
    batches = digits.train_batches(1437, seed=0)
    first, second = keys(next(batches)), keys(next(batches))
    moves = [abs(i - second.index(key)) for i, key in enumerate(first)]
    assert 1437 * 0.28 < np.mean(moves) < 1437 * 0.38  # a third, were it uniform


def test_order_and_pixels_depend_on_the_seed_alone(make_config: MakeConfig) -> None:
    dataset = data.load_classification(make_config(**AUGMENTED))
    expected = next(dataset.train_batches(64, seed=1))
    tf.random.set_seed(0)
    assert_same(next(dataset.train_batches(64, seed=1)), expected)
    tf.random.set_seed(7)
    assert_same(next(dataset.train_batches(64, seed=1)), expected)
    assert keys(next(dataset.train_batches(64, seed=2))) != keys(expected)


@pytest.mark.parametrize("seed", [0, -1, 2**40])
def test_any_int64_is_a_seed(digits: data.ClassificationDataset, seed: int) -> None:
    assert len(keys(next(digits.train_batches(8, seed=seed)))) == 8


@pytest.mark.parametrize(("process_count", "start_step"), [(2, 0), (4, 20)])
def test_processes_share_the_batch_of_one(
    make_config: MakeConfig, process_count: int, start_step: int
) -> None:
    dataset = data.load_classification(make_config(**AUGMENTED))
    single = dataset.train_batches(100, seed=0, start_step=start_step)
    shares = [
        dataset.train_batches(
            100, seed=0, start_step=start_step, process_index=i, process_count=process_count
        )
        for i in range(process_count)
    ]
    for batch in itertools.islice(single, 16):
        parts = [next(share) for share in shares]
        assert {len(part["label"]) for part in parts} == {100 // process_count}
        assert sorted(keys(*parts)) == sorted(keys(batch))


def test_augmentation_differs_between_epochs_and_examples(folder_config: MakeConfig) -> None:
    # All images are the same, and the label tells which one it is. JPEG files are the odd labels.
    dataset = data.load_classification(folder_config(augment="inception"))
    batches = dataset.train_batches(8, seed=0)
    seen = [
        image.tobytes()
        for batch in itertools.islice(batches, 4)
        for image, label in zip(batch["image"], batch["label"], strict=True)
        if label % 2
    ]
    assert len(set(seen)) == len(seen) == 16


def test_augmentation_of_an_example_does_not_depend_on_its_batch(
    folder_config: MakeConfig,
) -> None:
    dataset = data.load_classification(folder_config(augment="inception"))
    whole = next(dataset.train_batches(8, seed=0))
    parts = itertools.islice(dataset.train_batches(2, seed=0), 4)
    assert keys(*parts) == keys(whole)


def test_skipped_images_are_not_decoded(folder_config: MakeConfig) -> None:
    dataset = data.load_classification(folder_config())
    labels = [next(iter(b["label"])) for b in itertools.islice(dataset.train_batches(1, seed=0), 5)]
    for label in labels[:4]:
        for file in pathlib.Path(folder_config().data_dir, "train", f"class{label}").iterdir():
            file.write_bytes(b"no image any more")
    assert next(dataset.train_batches(1, seed=0, start_step=4))["label"] == labels[4]
    mine = dataset.train_batches(2, seed=0, start_step=2, process_index=0, process_count=2)
    assert next(mine)["label"] == labels[4]


@pytest.mark.parametrize(
    ("batch_size", "process_count"), [(48, 1), (60, 2), (354, 3), (366, 2), (48, 3)]
)
def test_evaluation_leaves_nothing_out(
    digits: data.ClassificationDataset, batch_size: int, process_count: int
) -> None:
    shares = [
        list(digits.eval_batches(batch_size, process_index=i, process_count=process_count))
        for i in range(process_count)
    ]
    assert {len(share) for share in shares} == {-(-360 // batch_size)}
    batches = list(itertools.chain(*shares))
    for batch in batches:
        assert batch["image"].shape == (batch_size // process_count, 8, 8, 1)
        assert batch["mask"].dtype == np.float32
        filling = batch["mask"] == 0
        assert not batch["image"][filling].any()
        assert not batch["label"][filling].any()
    real = [{name: batch[name][batch["mask"] == 1] for name in batch} for batch in batches]
    (everything,) = digits.eval_batches(360)
    assert sorted(keys(*real)) == sorted(keys(everything))


def test_a_process_may_have_nothing_but_filling(folder_config: MakeConfig) -> None:
    dataset = data.load_classification(folder_config())  # 5 to evaluate
    shares = [list(dataset.eval_batches(4, process_index=i, process_count=4)) for i in range(4)]
    masks = [[batch["mask"].item() for batch in share] for share in shares]
    assert masks == [[1, 1], [1, 0], [1, 0], [1, 0]]


def test_filling_stays_zero_under_normalisation(folder_config: MakeConfig) -> None:
    (batch,) = data.load_classification(folder_config(mean=(0.5,))).eval_batches(6)
    assert not batch["image"][5].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a positive multiple"),
        ({"batch_size": 9, "process_count": 2}, "batch_size=9 .* multiple of process_count=2"),
        ({"batch_size": 8, "process_count": 0}, "process_count=0"),
        ({"batch_size": 8, "process_index": 2, "process_count": 2}, "process_index=2 .* 0..1"),
    ],
)
def test_illegal_shares_are_named_at_once(
    digits: data.ClassificationDataset, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        digits.train_batches(**arguments, seed=0)
    with pytest.raises(ValueError, match=message):
        digits.eval_batches(**arguments)


def test_illegal_training_arguments_are_named_at_once(digits: data.ClassificationDataset) -> None:
    with pytest.raises(ValueError, match="batch_size=1438 exceeds the 1437 examples"):
        digits.train_batches(1438, seed=0)
    with pytest.raises(ValueError, match="start_step=-1"):
        digits.train_batches(8, seed=0, start_step=-1)


def test_labels_out_of_range_stop_the_iteration(make_config: MakeConfig) -> None:
    dataset = data.load_classification(make_config())
    dataset.num_classes = 9
    with pytest.raises(ValueError, match=r"example \d+ of 'digits'.*: label 9; legal are 0..8"):
        list(dataset.eval_batches(360))
