"""What a detection data set's configuration holds, and which values are legal."""

from collections.abc import Sequence
from typing import Any, Protocol

from dwconv_jax.data.checks import (
    check_colours,
    is_descending,
    is_flag,
    is_name,
    is_pair,
    is_positive,
    require,
    require_fields,
)

# Of the sides of a canvas: the network's largest stride.
_CANVAS_MULTIPLE = 32


class DetectionConfig(Protocol):
    """The fields of `config.dataset`: an `ml_collections.ConfigDict`, or any object with them.

    Attributes:
        name: a tfds name with instance masks ("scenes/digits", "scenes/fashion_mnist"), or "folder"
            for pictures with a JSON file of annotations in COCO's format.
        data_dir: where tfds keeps its prepared data sets (None: its default), or the folder's root.
            A folder holds `annotations/instances_<split>.json` and `<split>/*.jpg` (COCO) or
            `images/<split>/*.jpg`; or `<split>/_annotations.coco.json` beside the pictures.
        train_split: the split to train on, e.g. "train" or "train2017".
        eval_split: the split to evaluate on, e.g. "test" or "val2017".
        num_train: training images of data that is not at hand, for `describe_detection`.
        num_classes: classes of such data; where it is at hand, None, or what its files say.
        max_objects: room for objects in a training batch, an image.
        canvases: heights and widths to which images are padded, multiples of 32; a batch uses the
            smallest that holds its images. Every canvas is compiled once.
        scale: longest and shortest side to which images are resized, aspect kept; training draws
            the shortest one from `train_shortest`.
        train_shortest: shortest sides of training images.
        crop_shortest: every second training image is first resized to a shortest side of these, and
            cropped; none is, if empty.
        crop_range: sides of such crops, at least and at most, each drawn by itself.
        flip: whether training mirrors every second image.
        mean: subtracted from pixels in units of 0..1, one number a channel.
        std: divides pixels in units of 0..1, one number a channel.
    """

    name: str
    data_dir: str | None
    train_split: str
    eval_split: str
    num_train: int | None
    num_classes: int | None
    max_objects: int
    canvases: Sequence[tuple[int, int]]
    scale: tuple[int, int]
    train_shortest: Sequence[int]
    crop_shortest: Sequence[int]
    crop_range: tuple[int, int]
    flip: bool
    mean: Sequence[float]
    std: Sequence[float]


def check(config: DetectionConfig) -> None:
    """Checks everything that can be checked without looking at files.

    Raises:
        ValueError: a field is missing or has an illegal value.
    """
    require_fields(config, DetectionConfig)
    for field in ("name", "train_split", "eval_split"):
        require(config, field, is_name, "a non-empty string")
    for field in ("num_train", "num_classes"):
        require(config, field, lambda n: n is None or is_positive(n), "None or a positive int")
    require(config, "max_objects", is_positive, "a positive int")
    require(config, "flip", is_flag, "True or False")
    require(
        config,
        "canvases",
        lambda canvases: len(canvases) > 0 and all(map(_is_canvas, canvases)),
        f"pairs of a height and a width, multiples of {_CANVAS_MULTIPLE}",
    )
    require(config, "scale", is_descending, "the longest and the shortest side, positive ints")
    require(
        config,
        "train_shortest",
        lambda sides: len(sides) > 0 and all(map(is_positive, sides)),
        "one or more positive ints",
    )
    require(
        config, "crop_shortest", lambda sides: all(map(is_positive, sides)), "positive ints or ()"
    )
    require(
        config,
        "crop_range",
        lambda pair: is_descending(pair[::-1]),
        "the smallest and the largest side of a crop, positive ints",
    )
    check_colours(config)


def _is_canvas(value: Any) -> bool:
    return is_pair(value) and all(is_positive(n) and n % _CANVAS_MULTIPLE == 0 for n in value)
