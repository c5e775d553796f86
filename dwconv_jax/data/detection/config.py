"""The fields of `config.dataset` for detection."""

import dataclasses
from typing import Any

from dwconv_jax.data.config import LONGEST_AND_SHORTEST, DatasetConfig, color_mean, color_std
from dwconv_jax.data.settings import NAME, POSITIVE, Legal, is_pair, is_positive, setting

CHANNELS = 3  # every picture becomes RGB
# The sides of a canvas are multiples of the network's largest stride.
_CANVAS_MULTIPLE = 32


def _is_canvas(value: Any) -> bool:
    return is_pair(value) and all(is_positive(n) and n % _CANVAS_MULTIPLE == 0 for n in value)


def _are_sides(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(is_positive, value))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionConfig(DatasetConfig):
    """`config.dataset` where `config.task = "detection"`."""

    name: str = setting(
        "scenes/digits",
        "A tfds name with instance masks (`scenes/digits`, `scenes/fashion_mnist`), or `folder` "
        "for images with a JSON file of annotations in COCO's format below `data_dir`: "
        "`annotations/instances_<split>.json` with `<split>/*.jpg` (COCO) or "
        "`images/<split>/*.jpg`, or `<split>/_annotations.coco.json` beside the images.",
        NAME,
    )
    num_classes: int | None = setting(
        None,
        "The number of classes of a folder that is not at hand (`dwconv-jax compile`); otherwise "
        "None, or what the annotations say.",
        POSITIVE,
    )
    max_objects: int = setting(
        5, "Room for this many objects per image in a training batch.", POSITIVE
    )
    canvases: tuple[tuple[int, int], ...] = setting(
        ((64, 64),),
        "Heights and widths to which images are padded. A batch uses the smallest one that holds "
        "its images. Each canvas is compiled once.",
        Legal(
            f"pairs of a height and a width, multiples of {_CANVAS_MULTIPLE}",
            lambda canvases: len(canvases) > 0 and all(map(_is_canvas, canvases)),
        ),
    )
    scale: tuple[int, int] = setting(
        (64, 64),
        "The longest and the shortest side to which images are resized, keeping their aspect. "
        "Training draws the shortest one from `train_shortest`.",
        LONGEST_AND_SHORTEST,
    )
    train_shortest: tuple[int, ...] = setting(
        (64,),
        "Shortest sides of training images.",
        Legal(
            "one or more positive ints",
            lambda sides: len(sides) > 0 and _are_sides(sides),
        ),
    )
    crop_shortest: tuple[int, ...] = setting(
        (),
        "Half of the training images are first resized to one of these shortest sides and cropped; "
        "none if empty.",
        Legal("positive ints or ()", _are_sides),
    )
    crop_range: tuple[int, int] = setting(
        (48, 64),
        "The smallest and the largest side of these crops; height and width are drawn separately.",
        Legal(
            "the smallest and the largest side of a crop, positive ints",
            lambda pair: is_pair(pair) and all(map(is_positive, pair)) and pair[0] <= pair[1],
        ),
    )
    flip: bool = setting(False, "Training flips half of the images, left to right.")
    mean: tuple[float, ...] = color_mean()
    std: tuple[float, ...] = color_std()
