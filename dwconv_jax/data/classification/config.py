"""The fields of `config.dataset` for classification."""

import dataclasses

from dwconv_jax.data.config import StreamedConfig
from dwconv_jax.data.settings import NAME, POSITIVE, Legal, is_positive, number_in, one_of, setting
from dwconv_jax.errors import UserError

# Those of `augment.RECIPES`.
AUGMENTATIONS = ("none", "pad_crop", "pad_crop_flip", "inception")
# Names that are no tfds names, but stand for files of the user's.
LISTED = ("folder", "csv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationConfig(StreamedConfig):
    """`config.dataset` where `config.task = "classification"`."""

    name: str = setting(
        "digits",
        "A tfds name (`digits`, `fashion_mnist`, `cifar10`, `imagenet2012`, ...), `folder` for "
        "image files in `<data_dir>/<split>/<class>/<file>`, or `csv` for the lists "
        "`<data_dir>/<split>.csv` with the columns `file` and `label`.",
        NAME,
    )
    image_size: int = setting(32, "Height and width of the images in a batch.", POSITIVE)
    augment: str = setting("none", "How training crops and flips.", one_of(*AUGMENTATIONS))
    rand_augment_magnitude: float | None = setting(
        None, "Mean magnitude of RandAugment's operations; None turns it off.", number_in(0, 10)
    )
    rand_augment_std: float = setting(
        0.0, "Standard deviation of RandAugment's magnitudes.", number_in(0, 10)
    )
    color_jitter: float = setting(
        0.0,
        "How much training changes brightness, contrast and saturation. As in timm, RandAugment "
        "replaces it.",
        number_in(0, 1),
    )
    random_erasing: float = setting(
        0.0, "The probability of filling a random box with noise.", number_in(0, 1)
    )
    eval_resize: int | None = setting(
        None,
        "Evaluation resizes the short side to this and crops the center; None resizes straight to "
        "`image_size`.",
        Legal("an int >= image_size", is_positive),
    )

    def __post_init__(self) -> None:
        """See `Settings`."""
        super().__post_init__()
        if self.eval_resize is not None and self.eval_resize < self.image_size:
            raise UserError(
                f"{self.path}.eval_resize={self.eval_resize} must be None or an int >= image_size, "
                f"which is {self.image_size}"
            )

    def check_channels(self, channels: int) -> None:
        """Raises a UserError if `mean` or `std` do not fit images with this many channels."""
        for field in ("mean", "std"):
            if len(value := getattr(self, field)) not in (1, channels):
                numbers = "1 number" if channels == 1 else f"1 or {channels} numbers"
                raise UserError(
                    f"{self.path}.{field}={value} has {len(value)} numbers, but images of "
                    f"{self.name!r} have {channels} channel(s): it must have {numbers}"
                )
