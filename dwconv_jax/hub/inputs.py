"""Pictures and point clouds to the inputs of a model."""

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dwconv_jax.data.point_cloud.files import read_cloud
from dwconv_jax.errors import MissingPackageError, UserError
from dwconv_jax.models.point_prompt import CloudPreprocessing
from dwconv_jax.models.recipe import Preprocessing, Recreatable

if TYPE_CHECKING:
    from PIL.Image import Image

# A path, a picture of PIL, or uint8 [H, W] or [H, W, C].
Picture = Any
_CHANNELS = ((), (1,), (3,), (4,))


def preprocess(model: Recreatable) -> Callable[[Any], np.ndarray]:
    """Returns the function from pictures, or point clouds, to the inputs of a classifier.

    It takes one or a list, and returns float32 `[B, ...]`:

    - pictures: paths, pictures of PIL, or uint8 arrays `[H, W]` or `[H, W, C]`, to `[B, H, W, C]`,
      as timm's evaluation transform. Files are turned upright by their EXIF orientation; pictures
      and arrays are taken as they are.
    - clouds: numbers `[n, 3]`, n at least 2, whose second axis points up, or paths of `.npy` files
      that hold them or of `.obj` meshes, to `[B, cloud_size, 3]`.

    Args:
      model: a classifier with `preprocessing`.

    Raises:
      UserError: if the model has none; the function raises it for what is no picture or no cloud.
      MissingPackageError: if Pillow is not installed; likewise trimesh for meshes.
    """
    how = model.preprocessing
    if how is None:
        raise UserError(f"{type(model).__name__} has no preprocessing; set model.preprocessing")
    to_input = _of_cloud(how) if isinstance(how, CloudPreprocessing) else _of_picture(how)

    def to_inputs(sources: Any) -> np.ndarray:
        several = isinstance(sources, list | tuple)
        return np.stack([to_input(source) for source in (sources if several else [sources])])

    return to_inputs


def _of_cloud(how: CloudPreprocessing) -> Callable[[Any], np.ndarray]:
    return lambda cloud: how(read_cloud(cloud, how.cloud_size))


def _of_picture(how: Preprocessing) -> Callable[[Picture], np.ndarray]:
    mean, std = (np.asarray(numbers, np.float32) for numbers in (how.mean, how.std))

    def to_input(picture: Picture) -> np.ndarray:
        pixels = np.asarray(_fit(_open(picture, len(how.mean)), how), np.float32) / 255
        return (pixels.reshape(*how.image_size, -1) - mean) / std

    return to_input


def _open(picture: Picture, channels: int) -> "Image":
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise MissingPackageError("reading pictures takes pip install pillow") from error
    if isinstance(picture, str | os.PathLike):
        try:
            image = ImageOps.exif_transpose(Image.open(picture))
        except FileNotFoundError:
            raise
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise UserError(f"cannot read {os.fspath(picture)}: {error}") from error
    elif isinstance(picture, Image.Image):
        image = picture
    else:
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in _CHANNELS:
            raise UserError(
                "a picture must be a path, an image of PIL, or uint8 [H, W] or [H, W, C] with C in "
                f"1, 3, 4; got {array.dtype} {list(array.shape)}"
            )
        image = Image.fromarray(array.squeeze(-1) if array.shape[2:] == (1,) else array)
    if image.mode.startswith(("I", "F")):  # which Pillow would clip
        raise UserError(
            f"a picture must have 8 bits per channel, got Pillow's mode {image.mode} for {picture}"
        )
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: "Image", how: Preprocessing) -> "Image":
    """Resizes and crops as torchvision and timm do, rounding included."""
    from PIL import Image

    filters = Image.Resampling.__members__
    if how.interpolation.upper() not in filters:
        raise UserError(
            f"interpolation={how.interpolation!r} is none of PIL's: "
            f"{', '.join(name.lower() for name in filters)}"
        )
    height, width = how.image_size
    # 224 / 0.875 must be 256, and 10 / (10 / 12) must be 12.
    target_height, target_width = (math.floor(round(s / how.crop_pct, 6)) for s in (height, width))
    if how.crop_mode == "squash":
        size = (target_width, target_height)
    elif how.crop_mode == "center" and target_height == target_width:
        short = min(image.size)
        size = (target_height * image.width // short, target_height * image.height // short)
    else:
        ratios = image.width / target_width, image.height / target_height
        ratio = min(ratios) if how.crop_mode == "center" else max(ratios)
        size = (round(image.width / ratio), round(image.height / ratio))
    image = image.resize(size, filters[how.interpolation.upper()])
    left, top = (round((have - want) / 2) for have, want in zip(size, (width, height), strict=True))
    # Beyond its border a picture is black.
    return image.crop((left, top, left + width, top + height))
