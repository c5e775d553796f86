"""The fields of `config.dataset` that tasks share."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dwconv_jax.data.settings import (
    NAME,
    POSITIVE,
    Legal,
    Settings,
    int_from,
    is_pair,
    is_positive,
    numbers,
    setting,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 89_478_485  # PIL.Image.MAX_IMAGE_PIXELS; config files do not wait for Pillow

LONGEST_AND_SHORTEST = Legal(
    "the longest and the shortest side, positive ints",
    lambda value: is_pair(value) and all(map(is_positive, value)) and value[0] >= value[1],
)
_LEVELS = "numbers in 0..1 (pixel 255 is 1)"
_NOT_ZERO = "; they must not be 0"


def _are_levels(values: Sequence[float]) -> bool:
    return all(0 <= value <= 1 for value in values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(Settings):
    """Which data set to open, and what its pixels mean."""

    path = "config.dataset"

    name: str = setting("digits", "A tfds name, or `folder` for files below `data_dir`.", NAME)
    data_dir: str | None = setting(
        None,
        "Where tfds keeps its prepared data sets (None: its default), or the folder's root.",
        NAME,
    )
    train_split: str = setting("train", "The split to train on.", NAME)
    eval_split: str = setting("test", "The split to evaluate on.", NAME, operational=True)
    max_pixels: int = setting(
        MAX_PIXELS,
        "The most pixels of an image or label map; larger ones are not decoded. The default is "
        "that of Pillow's guard against decompression bombs.",
        POSITIVE,
        operational=True,
    )
    num_train: int | None = setting(
        None,
        "The number of training examples of data that is not at hand (`dwconv-jax compile`).",
        POSITIVE,
    )
    mean: tuple[float, ...] = setting(
        (0.5,),
        "Subtracted from pixels in units of 0..1: one number, or one per channel.",
        numbers(f"a tuple of {_LEVELS}", _are_levels),
    )
    std: tuple[float, ...] = setting(
        (0.5,),
        "Divides pixels in units of 0..1: one number, or one per channel.",
        numbers(
            f"a tuple of {_LEVELS}{_NOT_ZERO}",
            lambda values: _are_levels(values) and 0 not in values,
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedConfig(DatasetConfig):
    """The same for data sets whose examples are read one after the other."""

    shuffle_buffer: int = setting(
        50_000,
        "How many undecoded training examples to hold and draw from. If it is at least the number "
        "of training examples, they stay in memory and every epoch is a full shuffle. File names "
        "of a folder are always shuffled fully.",
        POSITIVE,
    )
    max_unreadable: int = setting(
        0,
        "How many corrupt training examples to skip, each with a warning that names it, before "
        "they are an error. Each process counts its own.",
        int_from(0),
    )


def color_mean() -> Any:
    """Declares `mean` of color images."""
    return setting(
        IMAGENET_MEAN,
        "Subtracted from pixels in units of 0..1: one number per channel.",
        numbers(f"three {_LEVELS}", lambda values: len(values) == 3 and _are_levels(values)),
    )


def color_std() -> Any:
    """Declares `std` of color images."""
    return setting(
        IMAGENET_STD,
        "Divides pixels in units of 0..1: one number per channel.",
        numbers(
            f"three {_LEVELS}{_NOT_ZERO}",
            lambda values: len(values) == 3 and _are_levels(values) and 0 not in values,
        ),
    )
