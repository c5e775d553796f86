import numpy as np
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from dwconv_jax import data
from tests.data.conftest import MakeConfig


def read(make_config: MakeConfig, split: str) -> tuple[np.ndarray, np.ndarray]:
    config = make_config()
    data.load_classification(config)  # prepares
    examples = list(tfds.as_numpy(tfds.load("digits", split=split, data_dir=config.data_dir)))
    return np.stack([e["image"] for e in examples]), np.stack([e["label"] for e in examples])


def test_splits_are_a_partition_of_scikit_learns_digits(make_config: MakeConfig) -> None:
    expected = load_digits()
    train_images, train_labels = read(make_config, "train")
    test_images, test_labels = read(make_config, "test")
    assert train_images.shape == (1437, 8, 8, 1)
    assert test_images.shape == (360, 8, 8, 1)
    assert train_images.dtype == np.uint8
    assert train_images.max() == 255

    def rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, ...]]:
        sixteenths = np.round(images.reshape(len(images), 64) * (16 / 255)).astype(int)
        return [tuple(row) for row in np.column_stack([sixteenths, labels]).tolist()]

    everything = rows(expected.images * (255 / 16), expected.target)
    assert len(set(everything)) == 1797
    assert sorted(rows(train_images, train_labels) + rows(test_images, test_labels)) == sorted(
        everything
    )


def test_splits_have_the_same_share_of_every_class(make_config: MakeConfig) -> None:
    _, train_labels = read(make_config, "train")
    _, test_labels = read(make_config, "test")
    share = np.bincount(test_labels) / np.bincount(train_labels)
    np.testing.assert_allclose(share, 360 / 1437, atol=0.01)


def test_loads_as_grey_images_of_ten_classes(digits: data.ClassificationDataset) -> None:
    assert digits.class_names == tuple("0123456789")
    assert (digits.num_classes, digits.channels) == (10, 1)
    assert (digits.num_train, digits.num_eval) == (1437, 360)


def test_is_readable_at_a_version_that_is_named(make_config: MakeConfig) -> None:
    data.load_classification(make_config())  # prepares
    assert data.load_classification(make_config(name="digits:1.0.0")).num_train == 1437
