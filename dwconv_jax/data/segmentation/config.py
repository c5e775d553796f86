"""The fields of `config.dataset` for segmentation."""

import dataclasses

from dwconv_jax.data.config import LONGEST_AND_SHORTEST, StreamedConfig, color_mean, color_std
from dwconv_jax.data.settings import NAME, POSITIVE, Legal, is_number, is_positive, numbers, setting
from dwconv_jax.errors import UserError

CHANNELS = 3  # every picture becomes RGB
# Label maps are uint8, and 255 stands for pixels of no class.
_MOST_CLASSES = 254


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationConfig(StreamedConfig):
    """`config.dataset` where `config.task = "segmentation"`."""

    name: str = setting(
        "scenes/digits",
        "A tfds name (`scenes/digits`, `scenes/fashion_mnist`, `scene_parse150`), or `folder` for "
        "`images/<split>/*.jpg` with `annotations/<split>/*.png` (SceneParsing) or "
        "`<split>/image/*.jpg` with `<split>/label/*.png` below `data_dir`.",
        NAME,
    )
    num_classes: int | None = setting(
        None,
        "The number of classes of a folder or of `scene_parse150`, unless `class_names` gives "
        "them; None for data sets that know it.",
        Legal(f"1..{_MOST_CLASSES}", lambda value: is_positive(value) and value <= _MOST_CLASSES),
    )
    class_names: tuple[str, ...] = setting(
        (),
        "The names of the classes of a folder, in the order of the labels; without them classes "
        "are called by their numbers.",
        Legal(
            "different non-empty strings, one for each class, or ()",
            lambda names: (
                isinstance(names, tuple | list)
                and all(isinstance(name, str) and name for name in names)
                and len(set(names)) == len(names) <= _MOST_CLASSES
            ),
        ),
    )
    zero_is_ignored: bool = setting(
        False, "Label 0 is no class, and label k is class k - 1 (ADE20K)."
    )
    crop_size: int = setting(64, "Height and width of a training crop.", POSITIVE)
    scale: tuple[int, int] = setting(
        (64, 64),
        "The longest and the shortest side to which images are resized, keeping their aspect.",
        LONGEST_AND_SHORTEST,
    )
    scale_range: tuple[float, float] = setting(
        (1.0, 1.0),
        "Training multiplies `scale` by a random number from this range.",
        numbers("0 < low <= high", lambda pair: len(pair) == 2 and 0 < pair[0] <= pair[1]),
    )
    max_class_share: float = setting(
        1.0,
        "Training draws a crop again, up to ten times, while one class has this share of its "
        "pixels; 1 accepts the first.",
        Legal("in (0, 1]", lambda value: is_number(value) and 0 < value <= 1),
    )
    flip: bool = setting(False, "Training flips half of the images, left to right.")
    photometric: bool = setting(
        False, "Training distorts brightness, contrast, saturation and hue."
    )
    size_multiple: int = setting(
        1,
        "Evaluation rounds resized sides to multiples of this. Each shape is compiled once: 1 "
        "evaluates as mmseg does, with hundreds of shapes; 32 bounds their number.",
        POSITIVE,
    )
    eval_scales: tuple[float, ...] = setting(
        (1.0,),
        "Evaluation averages the probabilities over views at these multiples of `scale`.",
        numbers("one or more positive numbers", lambda s: len(s) > 0 and all(x > 0 for x in s)),
        operational=True,
    )
    eval_flip: bool = setting(
        False, "Evaluation also averages over flipped views.", operational=True
    )
    mean: tuple[float, ...] = color_mean()
    std: tuple[float, ...] = color_std()

    def __post_init__(self) -> None:
        """See `Settings`."""
        super().__post_init__()
        count = len(self.class_names)
        if count and self.num_classes not in (None, count):
            raise UserError(
                f"{self.path}.num_classes={self.num_classes} must be None or {count}, the number "
                f"of {self.path}.class_names"
            )
