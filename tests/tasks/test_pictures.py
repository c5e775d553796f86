"""Pictures are upright, and no two share a file of their predictions."""

import numpy as np
import pytest
from PIL import Image

from dwconv_jax.tasks.pictures import output_names, read_upright
from tests.data.photographs import photograph


def test_a_turned_photograph_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    photograph().save(tmp_path / "turned.png", exif=exif)
    expected = photograph().transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(read_upright(tmp_path / "turned.png"), expected)


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        (["a.jpg", "b.png", "sub/a.png"], ["a", "b", "sub/a"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["a.png", "a_overlay.png"], ["a", "a_overlay.png"]),
    ],
)
def test_outputs_do_not_collide(names, outputs):
    assert output_names(names) == outputs
