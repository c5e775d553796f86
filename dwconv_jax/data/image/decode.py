"""Decoding of image files."""

import tensorflow as tf

from dwconv_jax.data.image.content import UnreadableError, checked

# libjpeg's exact transform gives the pixels that Pillow gives; TensorFlow's default does not.
DCT = "INTEGER_ACCURATE"


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG or PNG to uint8 `[height, width, channels]`, 1 or 3 channels."""
    return tf.io.decode_jpeg(encoded, channels, dct_method=DCT)  # decodes PNG as well


def open_image(encoded: tf.Tensor, channels: int, max_pixels: int) -> tf.Tensor:
    """Decodes an image eagerly, with an error that says why it cannot be read.

    Args:
      encoded: string scalar.
      channels: 1 or 3.
      max_pixels: the most pixels of an image.

    Returns:
      uint8 `[height, width, channels]`.

    Raises:
      UnreadableError: see `checked`; or the data is corrupt or truncated.
    """
    content = checked(encoded.numpy(), max_pixels)
    try:
        return decode(tf.constant(content), channels)
    except tf.errors.OpError as error:
        raise UnreadableError("the image is corrupt or truncated") from error
