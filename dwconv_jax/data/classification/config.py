"""What a classification data set's configuration holds, and which values are legal."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Protocol

from dwconv_jax.data.classification import augment
from dwconv_jax.errors import UserError


class DatasetConfig(Protocol):
    """The fields that every task has: which data set to open, and what pixels mean."""

    name: str
    data_dir: str | None
    train_split: str
    eval_split: str
    num_train: int | None
    mean: Sequence[float]
    std: Sequence[float]


class ShuffledConfig(DatasetConfig, Protocol):
    """The same, of data sets whose examples can only be read one after the other."""

    shuffle_buffer: int
    max_unreadable: int


class ClassificationConfig(Protocol):
    """The fields of `config.dataset`: an `ml_collections.ConfigDict`, or any object with them.

    Attributes:
        name: a tfds name ("digits", "fashion_mnist", "cifar10", "imagenet2012", ...), or "folder"
            for image files laid out as `<data_dir>/<split>/<class>/<file>`.
        data_dir: where tfds keeps its prepared data sets (None: its default), or the folder's root.
        train_split: the split to train on, e.g. "train" or (tfds only) "train[:90%]".
        eval_split: the split to evaluate on, e.g. "test".
        num_train: training examples of data that is not at hand, for `describe_classification`.
        image_size: height and width of the images in a batch.
        mean: subtracted from pixels in units of 0..1; one number, or one a channel.
        std: divides pixels in units of 0..1; one number, or one a channel.
        augment: how training crops and mirrors, a name in `data.classification.augment.RECIPES`.
        rand_augment_magnitude: mean magnitude of RandAugment's operations, 0..10; None: without.
        rand_augment_std: standard deviation of the magnitudes.
        color_jitter: by how much training changes brightness, contrast and saturation, 0..1; as in
            timm, only where there is no RandAugment.
        random_erasing: the probability of filling a random box with noise.
        eval_resize: evaluation resizes the short side to this and crops the centre; None resizes
            straight to `image_size`.
        shuffle_buffer: how many undecoded training examples to hold and draw from. With the number
            of training examples or more, they stay in memory and every epoch is a full shuffle.
            File names of a folder are always shuffled fully.
        max_unreadable: how many corrupt examples may be left out, each named in a warning, before
            they are an error; every process counts its own.
    """

    name: str
    data_dir: str | None
    train_split: str
    eval_split: str
    num_train: int | None
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    augment: str
    rand_augment_magnitude: float | None
    rand_augment_std: float
    color_jitter: float
    random_erasing: float
    eval_resize: int | None
    shuffle_buffer: int
    max_unreadable: int


def check(config: ClassificationConfig) -> None:
    """Checks everything that can be checked without looking at files.

    Raises:
        ValueError: a field is missing or has an illegal value.
    """
    fields = ClassificationConfig.__annotations__
    if missing := [field for field in fields if not hasattr(config, field)]:
        raise UserError(f"dataset lacks {', '.join(missing)}; it must have {', '.join(fields)}")
    for field in ("name", "train_split", "eval_split"):
        if not isinstance(value := getattr(config, field), str) or not value:
            raise UserError(f"dataset.{field}={value!r} must be a non-empty string")
    for field in ("image_size", "shuffle_buffer"):
        if not isinstance(value := getattr(config, field), int) or value < 1:
            raise UserError(f"dataset.{field}={value!r} must be a positive int")
    if config.num_train is not None and config.num_train < 1:
        raise UserError(f"dataset.num_train={config.num_train!r} must be None or a positive int")
    check_max_unreadable(config)
    resize = config.eval_resize
    if resize is not None and (not isinstance(resize, int) or resize < config.image_size):
        raise UserError(
            f"dataset.eval_resize={resize!r} must be None or an int >= image_size, "
            f"which is {config.image_size}"
        )
    if config.augment not in augment.RECIPES:
        raise UserError(unknown("augment", config.augment, augment.RECIPES))
    if config.rand_augment_magnitude is not None:
        _check_range(config, "rand_augment_magnitude", 10)
    for field, most in ("rand_augment_std", 10), ("color_jitter", 1), ("random_erasing", 1):
        _check_range(config, field, most)
    for field in ("mean", "std"):
        value = getattr(config, field)
        if not isinstance(value, tuple | list) or not all(0 <= number <= 1 for number in value):
            raise UserError(
                f"dataset.{field}={value!r} must be a tuple of numbers in 0..1 (pixel 255 is 1)"
            )
    if 0 in config.std:
        raise UserError(f"dataset.std={config.std} must not be 0")


def check_max_unreadable(config: ShuffledConfig) -> None:
    """Raises a ValueError if it is not a count."""
    most = config.max_unreadable
    if not isinstance(most, int) or most < 0:
        raise UserError(f"dataset.max_unreadable={most!r} must be an int >= 0")


def _check_range(config: ClassificationConfig, field: str, most: float) -> None:
    value = getattr(config, field)
    if not isinstance(value, int | float) or not 0 <= value <= most:
        raise UserError(f"dataset.{field}={value!r} must be a number in 0..{most}")


def check_channels(config: ClassificationConfig, channels: int) -> None:
    """Raises a ValueError if `mean` or `std` do not fit images of so many channels."""
    for field in ("mean", "std"):
        if len(value := getattr(config, field)) not in (1, channels):
            numbers = "1 number" if channels == 1 else f"1 or {channels} numbers"
            raise UserError(
                f"dataset.{field}={value} has {len(value)} numbers, but images of {config.name!r} "
                f"have {channels} channel(s): it must have {numbers}"
            )


def unknown(field: str, value: str, known: Iterable[str], list_known: bool = True) -> str:
    """Returns the sentence for a name that is not among the known ones."""
    known = list(known)
    close = difflib.get_close_matches(str(value), known, n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    legal = f"; legal: {', '.join(known)}" if list_known else ""
    return f"dataset.{field}={value!r} is unknown{legal}{hint}"
