import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dwconv_jax.data.image.decode import decode
from tests.data.photographs import photograph


def encode(image: Image.Image, file_format: str) -> tf.Tensor:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return tf.constant(buffer.getvalue())


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_decode_gives_the_pixels_of_pillow(file_format: str, channels: int) -> None:
    encoded = encode(photograph("L" if channels == 1 else "RGB", 50, 40), file_format)
    expected = np.asarray(Image.open(io.BytesIO(encoded.numpy()))).reshape(40, 50, channels)
    np.testing.assert_array_equal(decode(encoded, channels), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_decode_makes_any_png_rgb(mode: str) -> None:
    image = photograph(width=50, height=40).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(encode(image, "PNG"), 3), expected)
