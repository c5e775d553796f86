import itertools
import logging
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dwconv_jax import data
from tests.data.conftest import MakeConfig


def root(folder_config: MakeConfig) -> pathlib.Path:
    return pathlib.Path(folder_config().data_dir)


def test_reads_jpeg_and_png_with_classes_in_alphabetical_order(folder_config: MakeConfig) -> None:
    dataset = data.load_classification(folder_config())
    assert dataset.class_names == tuple(f"class{i}" for i in range(8))
    assert (dataset.num_train, dataset.num_eval, dataset.channels) == (8, 5, 3)
    batch = next(dataset.train_batches(8, seed=0))
    assert batch["image"].shape == (8, 16, 16, 3)
    assert sorted(batch["label"]) == list(range(8))
    (batch,) = dataset.eval_batches(5)
    np.testing.assert_array_equal(batch["label"], range(5))


def test_evaluation_may_lack_a_class_but_labels_stay(folder_config: MakeConfig) -> None:
    shutil.rmtree(root(folder_config) / "test" / "class1")
    (batch,) = data.load_classification(folder_config()).eval_batches(4)
    np.testing.assert_array_equal(batch["label"], [0, 2, 3, 4])


def test_ignores_hidden_files_and_other_files(folder_config: MakeConfig) -> None:
    folder = root(folder_config) / "train"
    (folder / ".git").mkdir()
    (folder / "README.txt").touch()
    (folder / "class0" / "._image.png").touch()
    (folder / "class0" / "notes.txt").touch()
    assert data.load_classification(folder_config()).num_train == 8


def test_a_home_relative_root_is_found(
    folder_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(root(folder_config).parent))
    assert data.load_classification(folder_config(data_dir="~/images")).num_train == 8


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"data_dir": None}, ValueError, "dataset.data_dir=None"),
        ({"data_dir": "/no/where"}, FileNotFoundError, "dataset.data_dir='/no/where'"),
        ({"train_split": "trian"}, ValueError, "dataset.train_split='trian'.*it has test, train"),
        ({"eval_split": "val"}, ValueError, "dataset.eval_split='val'.*it has test, train"),
        ({"train_split": "test", "eval_split": "train"}, ValueError, "class5, class6, class7"),
        ({"mean": (0.5, 0.5)}, ValueError, "dataset.mean=.* has 2 numbers.*1 or 3 numbers"),
    ],
)
def test_illegal_fields_are_named(
    folder_config: MakeConfig, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        data.load_classification(folder_config(**fields))


def test_an_empty_root_has_no_split(tmp_path: pathlib.Path, make_config: MakeConfig) -> None:
    config = make_config(name="folder", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="it has no folders"):
        data.load_classification(config)


def test_a_split_without_classes_is_named(folder_config: MakeConfig) -> None:
    (root(folder_config) / "val").mkdir()
    with pytest.raises(FileNotFoundError, match=r"eval_split='val'.*one for each class"):
        data.load_classification(folder_config(eval_split="val"))


def test_a_class_without_images_is_named(folder_config: MakeConfig) -> None:
    empty = root(folder_config) / "train" / "class9"
    empty.mkdir()
    (empty / "image.heic").touch()
    with pytest.raises(
        FileNotFoundError, match=r"train/class9 has no images.*\.jpg, \.jpeg, \.png"
    ):
        data.load_classification(folder_config())


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "truncated"])
@pytest.mark.parametrize("augment", ["none", "inception"])
@pytest.mark.parametrize("name", ["class2/image.png", "class3/image.JPEG"])
def test_an_unreadable_image_is_named(
    folder_config: MakeConfig, name: str, augment: str, content: bytes | None
) -> None:
    for split in "train", "test":
        file = root(folder_config) / split / name
        file.write_bytes(file.read_bytes()[:-200] if content is None else content)
    dataset = data.load_classification(folder_config(augment=augment))
    with pytest.raises(ValueError, match=f"cannot read .*/train/{name}"):
        list(itertools.islice(dataset.train_batches(2, seed=0), 4))
    with pytest.raises(ValueError, match=f"cannot read .*/test/{name}"):
        list(dataset.eval_batches(2))


def test_a_file_that_went_away_is_named(folder_config: MakeConfig) -> None:
    dataset = data.load_classification(folder_config())
    (root(folder_config) / "test/class4/image.png").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*/test/class4/image\.png"):
        list(dataset.eval_batches(2))


@pytest.mark.parametrize("augment", ["none", "inception"])
def test_a_webp_named_jpeg_is_read(folder_config: MakeConfig, augment: str) -> None:
    file = root(folder_config) / "train" / "class3" / "image.JPEG"
    before = Image.open(file).convert("RGB")
    before.save(file, "WEBP", lossless=True)
    config = folder_config(augment=augment)
    batch = next(data.load_classification(config).train_batches(8, seed=0))
    before.save(file, "PNG")
    expected = next(data.load_classification(config).train_batches(8, seed=0))
    np.testing.assert_array_equal(batch["image"], expected["image"])


def test_a_turned_photograph_is_upright(folder_config: MakeConfig) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = root(folder_config) / "train" / "class3" / "image.JPEG"
    upright = Image.open(file).convert("RGB")
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(file, "PNG", exif=exif)
    config = folder_config(augment="inception", eval_split="train")
    batch = next(data.load_classification(config).train_batches(8, seed=0))
    (evaluated,) = data.load_classification(config).eval_batches(8)
    upright.save(file, "PNG")
    expected = next(data.load_classification(config).train_batches(8, seed=0))
    np.testing.assert_array_equal(batch["image"], expected["image"])
    (expected,) = data.load_classification(config).eval_batches(8)
    np.testing.assert_array_equal(evaluated["image"], expected["image"])


def test_a_picture_of_16_bits_is_named(folder_config: MakeConfig) -> None:
    file = root(folder_config) / "train" / "class2" / "image.png"
    Image.new("I;16", (40, 30)).save(file)
    with pytest.raises(ValueError, match=r"class2/image.png: .* mode I;16; legal are 8 bits per"):
        next(data.load_classification(folder_config()).train_batches(8, seed=0))


def test_an_image_of_too_many_pixels_is_named_or_skipped(folder_config: MakeConfig) -> None:
    file = root(folder_config) / "train" / "class2" / "image.png"
    Image.new("1", (2000, 501)).save(file)
    with pytest.raises(ValueError, match=r"class2/image.png: the image has more pixels than conf"):
        next(data.load_classification(folder_config()).train_batches(8, seed=0))
    skipping = data.load_classification(folder_config(max_unreadable=1))
    assert 2 not in next(skipping.train_batches(8, seed=0))["label"]
    next(data.load_classification(folder_config(max_pixels=2**21)).train_batches(8, seed=0))


@pytest.mark.parametrize("name", ["class2/image.png", "class3/image.JPEG"])
def test_errors_speak_of_the_file_and_not_of_tensorflow(
    folder_config: MakeConfig, name: str
) -> None:
    file = root(folder_config) / "test" / name
    for spoil in lambda: file.write_bytes(file.read_bytes()[:-200]), file.unlink:
        dataset = data.load_classification(folder_config())
        spoil()
        with pytest.raises(ValueError, match=f"^cannot read .*{name}: ") as raised:
            list(dataset.eval_batches(5))
        message = str(raised.value)
        assert not any(part in message for part in ("{{", "[Op:", "\n"))


def test_what_is_left_out_is_counted(
    folder_config: MakeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dwconv_jax"), "propagate", True)
    folder = root(folder_config) / "train"
    (folder / "stray.png").touch()
    (folder / "class0" / "nested").mkdir()
    data.load_classification(folder_config())
    beside, inside = (record.getMessage() for record in caplog.records)
    assert beside.startswith(f"left 1 file out of {folder} (images belong in a folder for each")
    assert inside.startswith(f"left 1 folder out of {folder}/class0 (image files end in ")
