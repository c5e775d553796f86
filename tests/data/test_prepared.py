from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from dwconv_jax import data
from tests.data.conftest import MakeConfig

IMAGENET = {
    "name": "imagenet2012",
    "eval_split": "validation",
    "image_size": 32,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "augment": "inception",
    "eval_resize": 36,
}


@pytest.fixture
def mock_tfds() -> Iterator[None]:
    with tfds.testing.mock_data(num_examples=8, policy=tfds.testing.MockPolicy.USE_CODE):
        yield


@pytest.mark.usefixtures("mock_tfds")
@pytest.mark.parametrize("shuffle_buffer", [4, 8])
def test_imagenet_goes_through_both_pipelines(make_config: MakeConfig, shuffle_buffer: int) -> None:
    dataset = data.load_classification(make_config(**IMAGENET, shuffle_buffer=shuffle_buffer))
    assert (dataset.num_classes, dataset.channels) == (1000, 3)
    assert dataset.class_names[0] == "n01440764"
    batches = dataset.train_batches(4, seed=0)
    batch = [next(batches) for _ in range(5)][-1]
    assert batch["image"].shape == (4, 32, 32, 3)
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)
    assert [b["mask"].sum() for b in dataset.eval_batches(5)] == [5, 3]


@pytest.mark.usefixtures("mock_tfds")
@pytest.mark.parametrize("name", ["coco/2017", "scene_parse150"])
def test_other_data_sets_are_refused(make_config: MakeConfig, name: str) -> None:
    with pytest.raises(ValueError, match=f"dataset.name='{name}' is not an image classi"):
        data.load_classification(make_config(**{**IMAGENET, "name": name}))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cifar10", "run `tfds build cifar10 --data_dir=.*` once"),
        (
            "fashion_mnist",
            "without a network `python -m dwconv_jax.data.builders.fashion_mnist --data_dir=",
        ),
        ("imagenet2012", r"`tfds build imagenet2012 .*by hand: .*ILSVRC2012_img_train\.tar"),
    ],
)
def test_what_is_not_prepared_says_how_to(make_config: MakeConfig, name: str, advice: str) -> None:
    fields = {**IMAGENET, "name": name, "mean": (0.5,), "std": (0.5,)}
    with pytest.raises(FileNotFoundError, match=f"dataset.name='{name}' is not prepared.*{advice}"):
        data.load_classification(make_config(**fields))


@pytest.mark.parametrize(("shuffle_buffer", "cached"), [(1437, True), (1436, False)])
def test_a_full_shuffle_reads_the_records_once(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, shuffle_buffer: int, cached: bool
) -> None:
    data.load_classification(make_config())  # prepares
    reads: list[int] = []
    as_dataset = tfds.core.DatasetBuilder.as_dataset

    def counted(*args: object, **kwargs: object) -> tf.data.Dataset:
        def count(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            tf.py_function(reads.append, [example["label"]], [])
            return example

        return as_dataset(*args, **kwargs).map(count)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", counted)
    dataset = data.load_classification(make_config(shuffle_buffer=shuffle_buffer))
    batches = dataset.train_batches(1437, seed=0)
    for _ in range(3):
        next(batches)
    assert (len(reads) == 1437) == cached
    assert cached or len(reads) >= 3 * 1437


def test_imagenet_is_described_without_its_files(make_config: MakeConfig) -> None:
    dataset = data.describe_classification(make_config(**IMAGENET, num_train=1_281_167))
    assert (dataset.num_classes, dataset.channels, dataset.num_train) == (1000, 3, 1_281_167)
    spec = dataset.train_spec()
    assert spec == {"image": ((32, 32, 3), np.float32), "label": ((), np.int32)}


def test_what_is_prepared_is_counted(make_config: MakeConfig) -> None:
    dataset = data.describe_classification(make_config(train_split="train[:100]", num_train=7))
    assert dataset.num_train == 100
    batch = next(data.load_classification(make_config()).train_batches(4, seed=0))
    for name, spec in dataset.train_spec().items():
        assert batch[name].shape == (4, *spec.shape) and batch[name].dtype == spec.dtype


def test_what_cannot_be_counted_must_be_told(make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match=r"dataset.num_train=None: 'imagenet2012' is not prepared"):
        data.describe_classification(make_config(**IMAGENET))
