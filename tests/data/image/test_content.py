"""Formats are told by the content of a file, and large images are refused before decoding."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin

from dwconv_jax.data.image.content import UnreadableError, admit
from dwconv_jax.data.image.decode import decode, open_image
from tests.data.photographs import photograph
from tests.data.png import RGB, claim

MAX_PIXELS = 2500


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    image.save(buffer := io.BytesIO(), file_format, **options)
    return buffer.getvalue()


@tf.function
def decode_in_graph(encoded: tf.Tensor) -> tf.Tensor:
    return decode(admit(encoded, MAX_PIXELS), 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_gives_the_pixels_of_pillow(file_format: str, mode: str) -> None:
    content = encode(photograph(width=50, height=40).convert(mode), file_format)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decode_in_graph(tf.constant(content)), expected, strict=True)
    opened = open_image(tf.constant(content), 3, MAX_PIXELS)
    np.testing.assert_array_equal(opened, expected, strict=True)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    ("file_format", "mode", "options"),
    [
        *[("JPEG", "RGB", {"exif": turned(orientation)}) for orientation in range(1, 9)],
        ("JPEG", "L", {"exif": turned(5)}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "CMYK", {"exif": turned(6)}),
        ("JPEG", "RGB", {"xmp": XMP}),
        ("PNG", "RGB", {"exif": turned(8)}),
        ("PNG", "P", {"exif": turned(6), "transparency": 3}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "P", {"bits": 2}),
        ("PNG", "LA", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {"exif": turned(3)}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("TIFF", "CMYK", {"exif": turned(7)}),
        ("GIF", "P", {"transparency": 0}),
        ("BMP", "P", {}),
    ],
)
def test_images_look_as_pillow_shows_them_upright(
    file_format: str, mode: str, options: dict[str, object]
) -> None:
    image = photograph(width=50, height=40)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    content = encode(image, file_format, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    np.testing.assert_array_equal(decode_in_graph(tf.constant(content)), expected, strict=True)
    opened = open_image(tf.constant(content), 3, MAX_PIXELS)
    np.testing.assert_array_equal(opened, expected, strict=True)


def test_a_turned_palette_may_be_transparent() -> None:
    image = photograph(width=50, height=40).quantize(4)
    options = dict(exif=turned(6), transparency=bytes([0, 128, 255, 255]))
    pixels = decode_in_graph(tf.constant(encode(image, "PNG", **options)))
    expected = image.convert("RGB").transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(pixels, expected)


def test_an_orientation_in_the_profile_of_a_png_counts() -> None:
    image, exif = photograph(width=50, height=40), turned(6).tobytes()
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}", zip=True)
    pixels = decode_in_graph(tf.constant(encode(image, "PNG", pnginfo=text)))
    np.testing.assert_array_equal(pixels, image.transpose(Image.Transpose.ROTATE_270))


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    for file_format in "GIF", "WEBP":
        options = dict(lossless=True) if file_format == "WEBP" else {}
        content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        expected = np.broadcast_to(np.array([255, 0, 0], np.uint8), (6, 8, 3))
        np.testing.assert_array_equal(decode_in_graph(tf.constant(content)), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the image is empty"),
        (b"no image", "corrupt, or of an unknown format; legal: JPEG, PNG, BMP, GIF, WEBP, TIFF"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(90), "corrupt, or of an unknown format"),
        (encode(Image.new("RGB", (60, 50)), "JPEG"), "more pixels than .*=2500: 50 x 60"),
        (encode(Image.new("RGB", (60, 50)), "WEBP"), "more pixels than .*=2500: 50 x 60"),
        (claim(20_000, 20_000, 8, RGB), "more pixels than config.dataset.max_pixels=2500"),
        (claim(9_000, 12_000, 8, RGB), "more pixels than config.dataset.max_pixels=2500"),
        (encode(photograph(width=50, height=40), "JPEG")[:-200], "is corrupt or truncated"),
        (encode(photograph(width=50, height=40), "WEBP")[:-200], "corrupt"),
        (encode(Image.new("I;16", (5, 5)), "PNG"), "is a PNG of Pillow's mode I;16; legal are 8"),
        (encode(Image.new("I;16", (5, 5)), "TIFF"), "is a TIFF of Pillow's mode I;16"),
        (encode(Image.new("F", (5, 5)), "TIFF"), "is a TIFF of Pillow's mode F; legal are 8 bits"),
    ],
)
def test_others_are_refused_with_a_reason(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        open_image(tf.constant(content), 3, MAX_PIXELS)
    with pytest.raises(tf.errors.OpError):
        decode_in_graph(tf.constant(content))
