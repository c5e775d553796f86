"""Preprocessing of evaluation images; needs the configuration alone, no data set."""

import tensorflow as tf

from dwconv_jax.data.classification import augment
from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.image.content import checked
from dwconv_jax.data.image.normalize import normalize
from dwconv_jax.data.stream import Example


def eval_image(encoded: tf.Tensor, config: ClassificationConfig, channels: int) -> tf.Tensor:
    """Decodes, resizes, crops and normalizes a JPEG or PNG: float32 `[S, S, channels]`."""
    image = augment.eval_image(encoded, config.eval_resize, config.image_size, channels)
    return normalize(image, config)


def picture(encoded: tf.Tensor, config: ClassificationConfig, channels: int) -> Example:
    """What a batch for prediction holds of an encoded picture: its image.

    Raises:
      UnreadableError: the picture cannot be read.
    """
    content = checked(encoded.numpy(), config.max_pixels)
    return {"image": eval_image(tf.constant(content), config, channels)}
