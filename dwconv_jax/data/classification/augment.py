"""From an encoded image to the pixels a model sees: decoding, resizing, named augmentations.

Images are float32 `[height, width, channels]` in 0..255. Random choices depend on a stateless seed
(int64 `[2]`) and on nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from dwconv_jax.data.image import bicubic
from dwconv_jax.data.image.decode import DCT, decode
from dwconv_jax.data.image.random_crop import random_box

_END_OF_JPEG = b"\xff\xd9"


class Recipe(NamedTuple):
    """A named training augmentation.

    Attributes:
      crop: `(encoded, seed, size, channels) -> image`, of shape `[size, size, channels]`.
      augment: functions `(image, seed) -> image` to apply in turn; they keep the shape.
    """

    crop: Callable[[tf.Tensor, tf.Tensor, int, int], tf.Tensor]
    augment: tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], ...] = ()


def train_image(
    encoded: tf.Tensor, seed: tf.Tensor, recipe: Recipe, size: int, channels: int
) -> tf.Tensor:
    """Decodes an image and applies a recipe; returns float32 `[size, size, channels]`."""
    seeds = tf.unstack(tf.random.split(seed, 1 + len(recipe.augment)))
    image = tf.ensure_shape(recipe.crop(encoded, seeds[0], size, channels), [size, size, channels])
    for augment, augment_seed in zip(recipe.augment, seeds[1:], strict=True):
        image = augment(image, augment_seed)
    return image


def eval_image(encoded: tf.Tensor, resize: int | None, size: int, channels: int) -> tf.Tensor:
    """Decodes an image, resizes its short side to `resize` and crops the center.

    Sizes and offsets are rounded as in torchvision's `Resize` and `CenterCrop`.

    Args:
      encoded: string scalar.
      resize: the short side before the crop; None resizes the image to a square of `size`,
        whatever its aspect.
      size: height and width to return.
      channels: 1 or 3.

    Returns:
      float32 `[size, size, channels]`.
    """
    image = decode(encoded, channels)
    if resize is None:
        image = bicubic.resize(image, [size, size])
    else:
        shape = tf.shape(image)[:2]
        image = bicubic.resize(image, shape * resize // tf.reduce_min(shape))
        margin = tf.cast(tf.shape(image)[:2] - size, tf.float32)
        top, left = tf.unstack(tf.cast(tf.round(margin / 2), tf.int32))
        image = image[top : top + size, left : left + size]
    return tf.ensure_shape(image, [size, size, channels])


def _whole(encoded: tf.Tensor, seed: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    del seed
    return bicubic.resize(decode(encoded, channels), [size, size])


def _random_resized_crop(
    encoded: tf.Tensor, seed: tf.Tensor, size: int, channels: int
) -> tf.Tensor:
    """A random box of 8% to 100% of the area and aspect 3/4 to 4/3, resized to a square."""

    def crop_jpeg() -> tf.Tensor:  # decodes little more than the box
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        box = random_box(height, width, seed)
        return tf.io.decode_and_crop_jpeg(encoded, box, channels, dct_method=DCT)

    def crop_decoded() -> tf.Tensor:
        image = decode(encoded, channels)
        height, width, _ = tf.unstack(tf.shape(image))
        top, left, height, width = tf.unstack(random_box(height, width, seed))
        return image[top : top + height, left : left + width]

    # A truncated file must fail wherever the box lies, or resumed runs would differ.
    is_whole_jpeg = tf.io.is_jpeg(encoded) & (tf.strings.substr(encoded, -2, 2) == _END_OF_JPEG)
    return bicubic.resize(tf.cond(is_whole_jpeg, crop_jpeg, crop_decoded), [size, size])


def _pad_crop(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shifts by up to an eighth of the size in each direction, filling with black."""
    pad = image.shape[0] // 8
    padded = tf.pad(image, [[pad, pad], [pad, pad], [0, 0]])
    return tf.image.stateless_random_crop(padded, image.shape, seed)


def _flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.image.stateless_random_flip_left_right(image, seed)


RECIPES = {
    "none": Recipe(_whole),
    "pad_crop": Recipe(_whole, (_pad_crop,)),
    "pad_crop_flip": Recipe(_whole, (_pad_crop, _flip)),
    "inception": Recipe(_random_resized_crop, (_flip,)),
}
