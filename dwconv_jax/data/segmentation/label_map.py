"""Label maps: PNG files whose pixels are classes.

TensorFlow's decoder makes pictures of all PNGs: it replaces the indices of a palette by colors,
drops the low byte of 16 bits and stretches fewer than 8 bits to 0..255. Only 8-bit grayscale maps,
by far the most common, go through it.
"""

import numpy as np
import tensorflow as tf

from dwconv_jax.data.image.content import (
    PNG,
    UnreadableError,
    is_small_png,
    open_limited,
    png_header,
    read_in_python,
)

IGNORED = 255
_KIND = 24  # offset of the bit depth and the color type, a byte each
_GRAYSCALE, _PALETTE = 0, 3
_COLOR_TYPES = {2: "an RGB", 4: "a grayscale and alpha", 6: "an RGBA"}
_PLAIN = bytes([8, _GRAYSCALE])


def decode_label_map(encoded: tf.Tensor, zero_is_ignored: bool, max_pixels: int) -> tf.Tensor:
    """Decodes a grayscale or palette PNG of any bit depth.

    Args:
      encoded: string scalar.
      zero_is_ignored: whether 0 becomes 255 and k becomes k - 1.
      max_pixels: the most pixels of a label map; checked before anything is decoded.

    Returns:
      uint8 `[height, width]`, 255 for pixels of no class. Evaluating it is a TensorFlow error if
      `read_label_map` refuses the content.
    """
    header = png_header(encoded)
    is_plain = tf.strings.substr(header, _KIND, 2) == _PLAIN
    labels = tf.cond(
        is_plain & is_small_png(header, max_pixels),
        lambda: _decode_plain(encoded),
        lambda: read_in_python(
            lambda content: read_label_map(content, max_pixels), encoded, np.zeros([0, 0], np.uint8)
        ),
    )
    if not zero_is_ignored:
        return labels
    return tf.where((labels == 0) | (labels == IGNORED), tf.constant(IGNORED, tf.uint8), labels - 1)


def read_label_map(content: bytes, max_pixels: int) -> np.ndarray:
    """Reads a grayscale or palette PNG of any bit depth, eagerly.

    Args:
      content: of the file.
      max_pixels: the most pixels of a label map.

    Returns:
      The stored values or palette indices, uint8 `[height, width]`.

    Raises:
      UnreadableError: the content is another kind of PNG or no PNG, has too many pixels or values
        above 255, or is corrupt.
    """
    if not content.startswith(PNG) or len(content) < _KIND + 2:
        raise UnreadableError("the label map is not a PNG")
    depth, color_type = content[_KIND : _KIND + 2]
    if color_type in _COLOR_TYPES:
        raise UnreadableError(
            f"the label map is {_COLOR_TYPES[color_type]} PNG; legal are grayscale and palette "
            "PNGs, whose values are classes"
        )
    with open_limited(content, ("PNG",), "label map", max_pixels) as image:
        try:
            if content[_KIND : _KIND + 2] == _PLAIN:
                return _decode_plain(tf.constant(content)).numpy()
            labels = np.asarray(image)
        except Exception as error:  # whatever a decoder raises for corrupt data
            raise UnreadableError("the label map is corrupt or truncated") from error
    if color_type == _GRAYSCALE and 1 < depth < 8:
        labels = labels // (255 // (2**depth - 1))  # Pillow stretches them to 0..255
    if labels.max() > IGNORED:
        raise UnreadableError(f"the label map has the value {labels.max()}; legal are 0..255")
    return labels.astype(np.uint8)


def _decode_plain(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(encoded, channels=1)[..., 0]
