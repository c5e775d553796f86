"""What a model remembers of how it was made, so that it can be saved and take pictures."""

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dwconv_jax.errors import UserError

if TYPE_CHECKING:
    from dwconv_jax.hub.card import CardInfo
    from dwconv_jax.models.point_prompt.preprocessing import CloudPreprocessing

# Arguments that are mappings, which `Recipe` holds as pairs.
_MAPPINGS = ("mixer", "prompt")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The call of `create_model` that built a model.

    Attributes:
      name: of the model.
      arguments: what differs from the named model, as sorted pairs.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, name: str, arguments: Mapping[str, Any]) -> "Recipe":
        """Freezes the arguments: a model's static attributes must be hashable."""
        return cls(name, _frozen(arguments))

    def to_json(self) -> dict[str, Any]:
        """The arguments as JSON holds them.

        Raises:
          UserError: for an argument that a file cannot hold, such as a connectivity of your own.
        """
        return {name: _jsonable(value, name) for name, value in self.arguments}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How pictures become inputs; named as in timm's `pretrained_cfg`.

    Attributes:
      image_size: height and width of the inputs.
      mean: of each channel, for pixels from 0 to 1.
      std: likewise.
      interpolation: PIL's filter.
      crop_pct: which part of the resized picture's side the inputs are.
      crop_mode: "center" resizes the short side and crops the center, "squash" resizes both sides,
        "border" resizes the long side and pads the rest with zeros.
    """

    image_size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.875
    crop_mode: Literal["center", "squash", "border"] = "center"


class Recreatable:
    """A model that knows how it was made.

    Attributes:
      recipe: None if `create_model` did not build it.
      preprocessing: how pictures or clouds become inputs; None if that is not known.
      class_names: in the order of the outputs; None if they are not known.
      thresholds: of a multi-label classifier, the probability from which on each class counts as
        present; None for a model that gives an image one class.
    """

    recipe: Recipe | None = None
    preprocessing: "Preprocessing | CloudPreprocessing | None" = None
    class_names: tuple[str, ...] | None = None
    thresholds: tuple[float, ...] | None = None

    def save_pretrained(
        self, folder: str | os.PathLike[str], info: "CardInfo | None" = None
    ) -> None:
        """Writes `config.json`, `model.safetensors` and a model card; see `hub.save_pretrained`."""
        from dwconv_jax.hub.save import save_pretrained

        save_pretrained(self, folder, info)


def default_preprocessing(image_size: int, channels: int) -> Preprocessing:
    """ImageNet's; for other numbers of channels with the mean over its colors."""
    size, numbers = (image_size, image_size), (_IMAGENET_MEAN, _IMAGENET_STD)
    if channels == len(_IMAGENET_MEAN):
        return Preprocessing(image_size=size)
    mean, std = ((float(np.mean(colors)),) * channels for colors in numbers)
    return Preprocessing(image_size=size, mean=mean, std=std)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _frozen(entry)) for name, entry in value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _jsonable(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        if name in _MAPPINGS:
            return {key: _jsonable(entry, f"{name}[{key!r}]") for key, entry in value}
        return [_jsonable(entry, name) for entry in value]
    try:
        return np.dtype(value).name
    except TypeError as error:
        raise UserError(
            f"the argument {name}={value!r} cannot be saved: legal are numbers, strings, None, "
            "dtypes and sequences of them"
        ) from error
