"""Preprocessing of evaluation images; needs the configuration alone, no data set."""

import numpy as np
import tensorflow as tf

from dwconv_jax.data.detection.config import CHANNELS, DetectionConfig
from dwconv_jax.data.detection.geometry import evaluation_views, smallest_canvas
from dwconv_jax.data.image.decode import open_image
from dwconv_jax.data.image.normalize import normalize
from dwconv_jax.data.segmentation import augment
from dwconv_jax.data.stream import Example


def resize(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resizes to float32, rounded to whole levels; an image of that size keeps its values."""
    return tf.cond(
        tf.reduce_all(tf.shape(image)[:2] == size),
        lambda: tf.cast(image, tf.float32),
        lambda: augment.resize_image(image, size),
    )


def onto_canvas(
    image: tf.Tensor, size: tf.Tensor, canvas: tf.Tensor, config: DetectionConfig
) -> tf.Tensor:
    """Resizes and normalizes an image, and pads it with zeros at the bottom and right."""
    image = normalize(resize(image, size), config)
    bottom, right = tf.unstack(canvas - size)
    return tf.pad(image, [[0, bottom], [0, right], [0, 0]])


def evaluation_entry(
    image: tf.Tensor, size: tf.Tensor, canvas: tf.Tensor, config: DetectionConfig
) -> Example:
    """What an evaluation batch holds of a decoded image, id and mask aside.

    Args:
      image: uint8 `[h, w, 3]`.
      size: int32 `[2]`, height and width to resize to.
      canvas: int32 `[2]`, height and width after padding.
      config: see `DetectionConfig`.
    """
    original_size = tf.shape(image)[:2]
    return {
        "image": onto_canvas(image, size, canvas, config),
        "size": size,
        "scale": tf.cast(size / original_size, tf.float32),
        "original_size": original_size,
    }


def picture(encoded: tf.Tensor, config: DetectionConfig) -> Example:
    """What a batch for prediction holds of an encoded picture.

    Raises:
      UserError: no canvas of the configuration holds the resized picture.
      UnreadableError: the picture cannot be read.
    """
    image = open_image(encoded, CHANNELS, config.max_pixels)
    views = evaluation_views(np.array([image.shape.as_list()[:2]]), config)
    canvas = smallest_canvas(views.size, config.canvases)
    return evaluation_entry(image, tf.constant(views.size[0]), tf.constant(canvas[0]), config)
