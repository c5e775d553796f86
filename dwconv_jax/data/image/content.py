"""Encoded images, told apart by their content and not by the names of their files.

TensorFlow decodes most JPEGs and PNGs by itself. Pillow reads other formats, and the images that
TensorFlow would misread: those that an orientation in their metadata turns or mirrors.
"""

import io
import struct
from collections.abc import Callable
from typing import Any
from zlib import compress, crc32

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from dwconv_jax.data.image.formats import FORMATS

PNG = b"\x89PNG\r\n\x1a\n"
_NATIVE = (b"\xff\xd8\xff", PNG)  # how files begin that TensorFlow decodes by itself
_PNG_HEADER = 33  # bytes
_PNG_SIZE = 16  # offset of the width and the height, big-endian uint32
_PNG_KIND = 24  # offset of the bit depth and the color type, a byte each
_GRAY_16 = bytes([16, 0])  # TensorFlow would drop the low byte, Pillow would clip
# An orientation other than 1: in EXIF of either byte order, as hexadecimal digits in a PNG, in XMP.
# RE2 skips to the literal beginning of a pattern, so that each costs 10 us for 100 kB.
_TURNED = (
    rb"\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]",
    rb"\x01\x12\x00[\x03\x04]\x00\x00\x00\x01\x00(?:\x00\x00)?[\x02-\x08]",
    rb"Raw profile type (?:exif|APP1)",
    rb"tiff:Orientation(?:=\"|>)[2-8]",
)
_GRAY_MODES = ("1", "L", "LA")
_COLOR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class UnreadableError(Exception):
    """An image or label map that cannot be read; the message says why, but not which file it is."""


def png_header(encoded: tf.Tensor) -> tf.Tensor:
    """The first bytes of a string scalar, filled up with zeros if they are too few for a PNG."""
    return tf.strings.substr(encoded, 0, _PNG_HEADER) + bytes(_PNG_HEADER)


def is_small_png(header: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Whether a `png_header` is one, and its image has pixels, but at most `max_pixels`."""
    is_png = tf.strings.substr(header, 0, len(PNG)) == PNG
    return is_png & _is_small(_png_size(header), max_pixels)


def image_size(encoded: tf.Tensor) -> tf.Tensor:
    """Height and width of a JPEG or PNG, int32 `[2]`, from its header."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
        lambda: _png_size(png_header(encoded)),
    )


def _png_size(header: tf.Tensor) -> tf.Tensor:
    fields = tf.strings.substr(header, _PNG_SIZE, 8)
    return tf.io.decode_raw(fields, tf.int32, little_endian=False)[::-1]


def _is_small(size: tf.Tensor, max_pixels: int) -> tf.Tensor:
    return tf.reduce_all(size > 0) & (tf.reduce_prod(tf.cast(size, tf.int64)) <= max_pixels)


def admit(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Passes on what TensorFlow decodes well, and turns other images into upright PNGs.

    Args:
      encoded: string scalar.
      max_pixels: the most pixels of an image; checked before anything is decoded.

    Returns:
      A JPEG or PNG, string scalar. Evaluating it is a TensorFlow error if `checked` refuses the
      content.
    """

    def admit_jpeg() -> tf.Tensor:
        return tf.cond(
            _is_small(tf.io.extract_jpeg_shape(encoded)[:2], max_pixels), lambda: encoded, convert
        )

    def convert() -> tf.Tensor:
        return read_in_python(lambda content: checked(content, max_pixels), encoded, b"")

    header, may_be_turned = png_header(encoded), _may_be_turned(encoded)
    is_gray_16 = tf.strings.substr(header, _PNG_KIND, 2) == _GRAY_16
    # A branch costs as much as decoding a tiny image, so that PNGs, the tiniest, pass only one.
    return tf.cond(
        is_small_png(header, max_pixels) & ~is_gray_16 & ~may_be_turned,
        lambda: encoded,
        lambda: tf.cond(tf.io.is_jpeg(encoded) & ~may_be_turned, admit_jpeg, convert),
    )


def _may_be_turned(encoded: tf.Tensor) -> tf.Tensor:
    """Whether an image may have an orientation; never False for one that has."""
    without = [tf.strings.regex_replace(encoded, p, "", replace_global=False) for p in _TURNED]
    return tf.reduce_any(tf.strings.length(without) < tf.strings.length(encoded))


def read_in_python(
    read: Callable[[bytes], Any], encoded: tf.Tensor, empty: np.ndarray | bytes
) -> tf.Tensor:
    """Calls a Python function within a graph.

    An exception in it would make TensorFlow log its traceback; an UnreadableError becomes a failed
    assertion instead.

    Args:
      read: maps the content of a file to an array or a string; may raise UnreadableError.
      encoded: string scalar, the content of the file.
      empty: something of the type and rank of what `read` returns.
    """

    def attempt(content: bytes) -> tuple[np.bool_, Any]:
        try:
            return np.bool_(True), read(content)
        except UnreadableError:
            return np.bool_(False), empty

    spec = tf.constant(empty)
    is_read, value = tf.numpy_function(attempt, [encoded], (tf.bool, spec.dtype))
    with tf.control_dependencies([tf.debugging.Assert(is_read, ["unreadable"])]):
        return tf.ensure_shape(tf.identity(value), [None] * spec.shape.rank)


def checked(content: bytes, max_pixels: int) -> bytes:
    """Checks the header of an image, and turns what TensorFlow does not decode well into a PNG.

    Args:
      content: of the file. Of an animation, the first frame is read.
      max_pixels: the most pixels of an image.

    Returns:
      A JPEG or PNG that is upright as it is stored.

    Raises:
      UnreadableError: the content is not in one of `FORMATS`, has too many pixels or more than 8
        bits per channel, or is corrupt.
    """
    if not content:
        raise UnreadableError("the image is empty")
    with open_limited(content, FORMATS, "image", max_pixels) as image:
        if image.mode not in (*_GRAY_MODES, *_COLOR_MODES):
            raise UnreadableError(
                f"the image is a {image.format} of Pillow's mode {image.mode}; legal are 8 bits "
                "per channel"
            )
        if content.startswith(_NATIVE) and _is_upright(image):
            return content
        try:
            ImageOps.exif_transpose(image, in_place=True)
            image.info.pop("transparency", None)  # ignored, but Pillow would warn
            pixels = image.convert("L" if image.mode in _GRAY_MODES else "RGB")
        except Exception as error:  # whatever a decoder raises for corrupt data
            raise UnreadableError(
                f"the image is a {image.format} that is corrupt or truncated"
            ) from error
    return uncompressed_png(np.asarray(pixels))


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # whatever corrupt data raises; TensorFlow decodes what it can
        return True


def uncompressed_png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 `[H, W]` or `[H, W, 3]`, far faster than Pillow, which filters every row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    height, width = pixels.shape[:2]
    color_type = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    rows = np.pad(pixels.reshape(height, -1), [(0, 0), (1, 0)])  # each begins with its filter: none
    parts = chunk(b"IHDR", header), chunk(b"IDAT", compress(rows.tobytes(), 0)), chunk(b"IEND", b"")
    return PNG + b"".join(parts)


def open_limited(
    content: bytes, formats: tuple[str, ...], what: str, max_pixels: int
) -> Image.Image:
    """Opens an image with Pillow, which reads the header alone.

    Args:
      content: of the file.
      formats: Pillow's names of the legal formats.
      what: the image, for errors.
      max_pixels: the most pixels of an image.

    Raises:
      UnreadableError: the content is in none of the formats, or has too many pixels.
    """
    too_large = f"the {what} has more pixels than config.dataset.max_pixels={max_pixels}"
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(too_large) from error
    except Exception as error:  # whatever a decoder raises for corrupt data
        problem = (
            "corrupt or truncated"
            if content.startswith(_NATIVE)
            else f"corrupt, or of an unknown format; legal: {', '.join(formats)}"
        )
        raise UnreadableError(f"the {what} is {problem}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableError(f"{too_large}: {height} x {width}")
    return image
