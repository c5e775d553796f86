"""Decoding of image files."""

import tensorflow as tf

# libjpeg's exact transform gives the pixels that Pillow gives; TensorFlow's default does not.
DCT = "INTEGER_ACCURATE"


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG or PNG to uint8 `[height, width, channels]`, 1 or 3 channels."""
    return tf.io.decode_jpeg(encoded, channels, dct_method=DCT)  # decodes PNG as well
