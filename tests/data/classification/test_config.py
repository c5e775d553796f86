from typing import Any

import ml_collections
import pytest

from dwconv_jax import data
from dwconv_jax.data.classification import augment, config, sources


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "dataset.name='' must be a non-empty string"),
        ("name", "fashion_mnits", "did you mean 'fashion_mnist'"),
        ("name", "digits:9.9.9", "dataset.name='digits:9.9.9'.* only: 1.0.0"),
        ("name", "cifar10/foo", "dataset.name='cifar10/foo'.*foo not found"),
        ("name", "two words", "dataset.name='two words'"),
        ("name", "foldr", "did you mean 'folder'"),
        ("train_split", None, "dataset.train_split=None must be a non-empty string"),
        ("train_split", "trian", "dataset.train_split='trian' is no split of 'digits'"),
        ("eval_split", "validation", "legal: .*train.*test"),
        ("eval_split", "test[:0]", r"dataset.eval_split='test\[:0\]'"),
        ("image_size", 0, "dataset.image_size=0 must be a positive int"),
        ("image_size", "32", "dataset.image_size='32' must be a positive int"),
        ("shuffle_buffer", 0, "dataset.shuffle_buffer=0 must be a positive int"),
        ("mean", (123.7, 116.3, 103.5), "dataset.mean=.* must be a tuple of numbers in 0..1"),
        ("mean", 0.5, "dataset.mean=0.5 must be a tuple"),
        ("std", (0.0,), "dataset.std=.* must not be 0"),
        ("mean", (0.5, 0.5, 0.5), "dataset.mean=.* has 3 numbers.*it must have 1 number"),
        ("std", (), "dataset.std=.* has 0 numbers"),
        ("augment", "incepton", "legal: none, pad_crop, .*did you mean 'inception'"),
        (
            "rand_augment_magnitude",
            11.0,
            "rand_augment_magnitude=11.0 must be None or a number in 0..10",
        ),
        ("rand_augment_std", -0.5, "dataset.rand_augment_std=-0.5 must be a number in 0..10"),
        ("color_jitter", "0.4", "dataset.color_jitter='0.4' must be a number in 0..1"),
        ("random_erasing", 25, "dataset.random_erasing=25 must be a number in 0..1"),
        ("max_unreadable", -1, "dataset.max_unreadable=-1 must be an int >= 0"),
        ("max_unreadable", 0.1, "dataset.max_unreadable=0.1 must be an int >= 0"),
        ("eval_resize", 7, "dataset.eval_resize=7 must be None or an int >= image_size"),
        ("eval_resize", 8.5, "dataset.eval_resize=8.5"),
    ],
)
def test_illegal_values_are_named(make_config: Any, field: str, value: Any, message: str) -> None:
    config = make_config().unlock()
    del config[field]
    config[field] = value
    with pytest.raises(ValueError, match=message):
        data.load_classification(config)


def test_missing_fields_are_named() -> None:
    config = ml_collections.ConfigDict({"name": "digits", "data_dir": None})
    with pytest.raises(
        ValueError, match=r"dataset lacks train_split, .*max_unreadable, .*; it must"
    ):
        data.load_classification(config)


def test_legal_names_are_those_that_have_code() -> None:
    assert tuple(augment.RECIPES) == config.AUGMENTATIONS
    assert tuple(sources._LISTED) == config.LISTED
