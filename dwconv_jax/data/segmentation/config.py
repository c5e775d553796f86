"""What a segmentation data set's configuration holds, and which values are legal."""

from collections.abc import Sequence
from typing import Protocol

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
from dwconv_jax.data.classification.config import check_max_unreadable


class SegmentationConfig(Protocol):
    """The fields of `config.dataset`: an `ml_collections.ConfigDict`, or any object with them.

    Attributes:
        name: a tfds name ("scenes/digits", "scenes/fashion_mnist", "scene_parse150"), or "folder".
        data_dir: where tfds keeps its prepared data sets (None: its default), or the folder's root.
            A folder holds `images/<split>/*.jpg` and `annotations/<split>/*.png` (SceneParsing), or
            `<split>/image/*.jpg` and `<split>/label/*.png`.
        train_split: the split to train on, e.g. "train" or "training".
        eval_split: the split to evaluate on, e.g. "test" or "validation".
        num_train: training examples of data that is not at hand, for `describe_segmentation`.
        num_classes: classes of a folder or of `scene_parse150`; None for data sets that know.
        zero_is_ignored: whether label 0 is no class and label k is class k - 1 (ADE20K).
        crop_size: height and width of a training crop.
        scale: longest and shortest side to which images are resized, aspect kept.
        scale_range: training multiplies both by a number drawn from this range.
        max_class_share: a training crop is drawn anew, up to ten times, while one class has this
            share of its pixels; 1 takes the first.
        flip: whether training mirrors every second image.
        photometric: whether training distorts brightness, contrast, saturation and hue.
        size_multiple: evaluation rounds the resized sides to multiples of this. Every shape is
            compiled once: 1 is the reference (hundreds of shapes), 32 bounds them.
        eval_scales: evaluation averages the probabilities of views at these multiples of `scale`.
        eval_flip: whether it also averages over mirrored views.
        mean: subtracted from pixels in units of 0..1, one number a channel.
        std: divides pixels in units of 0..1, one number a channel.
        shuffle_buffer: how many undecoded training examples to hold and draw from.
        max_unreadable: how many corrupt training examples may be left out, each named in a warning,
            before they are an error; every process counts its own. Evaluation wants every picture.
    """

    name: str
    data_dir: str | None
    train_split: str
    eval_split: str
    num_train: int | None
    num_classes: int | None
    zero_is_ignored: bool
    crop_size: int
    scale: tuple[int, int]
    scale_range: tuple[float, float]
    max_class_share: float
    flip: bool
    photometric: bool
    size_multiple: int
    eval_scales: Sequence[float]
    eval_flip: bool
    mean: Sequence[float]
    std: Sequence[float]
    shuffle_buffer: int
    max_unreadable: int


def check(config: SegmentationConfig) -> None:
    """Checks everything that can be checked without looking at files.

    Raises:
        ValueError: a field is missing or has an illegal value.
    """
    require_fields(config, SegmentationConfig)
    for field in ("name", "train_split", "eval_split"):
        require(config, field, is_name, "a non-empty string")
    for field in ("crop_size", "size_multiple", "shuffle_buffer"):
        require(config, field, is_positive, "a positive int")
    check_max_unreadable(config)
    for field in ("zero_is_ignored", "flip", "photometric", "eval_flip"):
        require(config, field, is_flag, "True or False")
    require(config, "num_train", lambda n: n is None or is_positive(n), "None or a positive int")
    require(
        config,
        "num_classes",
        lambda n: n is None or (is_positive(n) and n < 255),
        "None or 1..254",
    )
    require(config, "scale", is_descending, "the longest and the shortest side, positive ints")
    require(
        config,
        "scale_range",
        lambda pair: is_pair(pair) and 0 < pair[0] <= pair[1],
        "0 < low <= high",
    )
    require(
        config,
        "eval_scales",
        lambda scales: len(scales) > 0 and all(scale > 0 for scale in scales),
        "one or more positive numbers",
    )
    require(config, "max_class_share", lambda share: 0 < share <= 1, "in (0, 1]")
    check_colours(config)
