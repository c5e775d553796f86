"""Label maps of every kind of PNG: read as stored, or refused by name."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dwconv_jax.data.image.content import UnreadableError
from dwconv_jax.data.segmentation.label_map import decode_label_map, read_label_map
from tests.data.png import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, claim, encode_png

MAX_PIXELS = 1000


def decode_in_graph(content: bytes, zero_is_ignored: bool = False) -> np.ndarray:
    @tf.function
    def decode(encoded: tf.Tensor) -> tf.Tensor:
        return decode_label_map(encoded, zero_is_ignored, MAX_PIXELS)

    return decode(tf.constant(content)).numpy()


@pytest.mark.parametrize(
    ("depth", "color_type"),
    [(depth, kind) for kind in (GRAY, PALETTE) for depth in (1, 2, 4, 8)] + [(16, GRAY)],
)
def test_values_and_indices_are_read_as_stored(depth: int, color_type: int) -> None:
    labels = np.arange(13 * 9).reshape(13, 9) * 5 % min(2**depth, 256)
    content = encode_png(labels, depth, color_type)
    for read in read_label_map(content, MAX_PIXELS), decode_in_graph(content):
        np.testing.assert_array_equal(read, labels.astype(np.uint8), strict=True)


def test_a_palette_map_of_pillow_is_read_as_indices() -> None:
    labels = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    image = Image.fromarray(labels, "L")
    # Two classes have one color.
    image.putpalette([128, 0, 0, 128, 0, 0] + 254 * [0, 64, 0])
    assert image.mode == "P"
    image.save(buffer := io.BytesIO(), "PNG", transparency=0)
    np.testing.assert_array_equal(decode_in_graph(buffer.getvalue()), labels)


def test_zero_may_be_no_class_in_every_kind() -> None:
    labels = np.array([[0, 1, 2, 3]])
    for depth, color_type in (8, GRAY), (2, PALETTE), (16, GRAY):
        content = encode_png(labels, depth, color_type)
        np.testing.assert_array_equal(decode_in_graph(content, True), [[255, 0, 1, 2]])


def as_jpeg() -> bytes:
    Image.new("L", (4, 4)).save(buffer := io.BytesIO(), "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encode_png(np.ones((3, 4), int), 8, RGB), "is an RGB PNG; legal are grayscale and palet"),
        (encode_png(np.ones((3, 4), int), 16, RGBA), "is an RGBA PNG; legal are"),
        (encode_png(np.ones((3, 4), int), 8, GRAY_ALPHA), "is a grayscale and alpha PNG; legal"),
        (encode_png(np.full((3, 4), 300), 16, GRAY), "has the value 300; legal are 0..255"),
        (encode_png(np.ones((30, 40), int), 8, GRAY), "has more pixels than .*max_pixels=1000"),
        (claim(20_000, 20_000, 1, PALETTE), "has more pixels than config.dataset.max_pixels=1000"),
        (encode_png(np.ones((9, 9), int), 8, GRAY)[:60], "is corrupt or truncated"),
        (encode_png(np.ones((9, 9), int), 4, PALETTE)[:100], "is corrupt or truncated"),
        (as_jpeg(), "is not a PNG"),
        (b"", "is not a PNG"),
    ],
)
def test_others_are_refused_by_name(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableError, match=f"^the label map {message}"):
        read_label_map(content, MAX_PIXELS)
    with pytest.raises(tf.errors.OpError):
        decode_in_graph(content)
