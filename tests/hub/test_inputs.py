"""Pictures to inputs, against timm's transform."""

import numpy as np
import pytest
from PIL import Image

import dwconv_jax
from dwconv_jax.errors import UserError
from dwconv_jax.models.recipe import Preprocessing


@pytest.mark.parametrize("name", ["config", "bilinear", "squash", "border", "oblong", "enlarged"])
def test_inputs_are_those_of_timm_within_one_gray_level(expected, model, picture, name):
    config = expected.config["config.json"]["pretrained_cfg"] | expected.config["others"].get(
        name, {}
    )
    model.preprocessing = Preprocessing(
        image_size=tuple(config["input_size"][1:]), mean=(0, 0, 0), std=(1, 1, 1),
        **{key: config[key] for key in ("interpolation", "crop_pct", "crop_mode")},
    )  # fmt: skip
    inputs = dwconv_jax.preprocess(model)(picture)
    np.testing.assert_allclose(255 * inputs[0], expected[f"input/pixels/{name}"], atol=1)


def test_files_and_arrays_and_lists(model, picture, tmp_path):
    model.preprocessing = Preprocessing(image_size=(16, 16))
    picture.save(tmp_path / "picture.png")
    rotated = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    rotated.save(tmp_path / "rotated.png", exif=exif)
    to_inputs = dwconv_jax.preprocess(model)
    inputs = to_inputs([picture, np.asarray(picture), tmp_path / "picture.png"])
    assert inputs.shape == (3, 16, 16, 3)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, to_inputs(picture).repeat(3, 0))
    np.testing.assert_array_equal(to_inputs(str(tmp_path / "rotated.png")), inputs[:1])
    gray = to_inputs(np.asarray(picture.convert("L")))
    assert gray.shape == (1, 16, 16, 3)


def test_what_is_no_picture_is_named(model, tmp_path):
    to_inputs = dwconv_jax.preprocess(model)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"cannot read .*text.jpg"):
        to_inputs(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"got float64 \[4, 4\]"):
        to_inputs(np.zeros((4, 4)))


def test_pictures_of_16_bits_are_refused_by_name(model, tmp_path):
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(deep)
    with pytest.raises(UserError, match=r"8 bits per channel, got Pillow's mode I;16 for .*deep"):
        dwconv_jax.preprocess(model)(deep)


def test_arrays_of_five_channels_are_refused(model):
    with pytest.raises(UserError, match=r"got uint8 \[4, 4, 5\]"):
        dwconv_jax.preprocess(model)(np.zeros((4, 4, 5), np.uint8))
