"""CSV lists of files and labels: what they mean, and mistakes by file and line."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from dwconv_jax import data
from dwconv_jax.errors import UserError
from tests.data.conftest import MakeConfig

FILES = ("a/1.png", "a/2.png", "b/ü.png", "b/4.png")


@pytest.fixture
def csv_config(tmp_path: pathlib.Path, make_config: MakeConfig) -> MakeConfig:
    """Makes configurations of the lists train.csv and test.csv beside four images."""
    for level, name in enumerate(FILES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (16, 16), level).save(tmp_path / name)
    write(
        tmp_path, "train", *(f"{name},{label}" for name, label in zip(FILES, "yxyz", strict=True))
    )
    write(tmp_path, "test", "a/1.png,y", "b/4.png,z")

    def make(**fields: object) -> object:
        return make_config(**{"name": "csv", "data_dir": str(tmp_path), "image_size": 4, **fields})

    return make


def write(folder: pathlib.Path, split: str, *lines: str, header: str = "file,label") -> None:
    (folder / f"{split}.csv").write_text("\n".join([header, *lines]) + "\n", "utf-8-sig")


def test_labels_are_those_of_the_list(csv_config: MakeConfig) -> None:
    dataset = data.load_classification(csv_config())
    assert dataset.class_names == ("x", "y", "z") and dataset.channels == 3
    assert (dataset.num_train, dataset.num_eval) == (4, 2)
    batch = next(dataset.train_batches(4, seed=0))
    labels = dict(zip(np.round(batch["image"][:, 0, 0, 0] * 255), batch["label"], strict=True))
    assert labels == {0: 1, 1: 0, 2: 1, 3: 2}
    (batch,) = dataset.eval_batches(2)
    np.testing.assert_array_equal(batch["label"], [1, 2])
    assert dataset.name_eval([1])[1].endswith("b/4.png")
    np.testing.assert_array_equal(dataset.count_labels(), [1, 2, 1])


def test_without_a_root_files_are_beside_the_list(
    csv_config: MakeConfig, tmp_path: pathlib.Path
) -> None:
    lists = {f"{split}_split": str(tmp_path / f"{split}.csv") for split in ("train", "eval")}
    write(tmp_path, "eval", f'"{tmp_path}/a/2.png",x,9', header="file,label,weight")
    dataset = data.load_classification(csv_config(data_dir=None, **lists))
    assert (dataset.num_train, dataset.num_eval) == (4, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a/1.png,y", "a/3.png,y"], r"train\.csv, line 3: there is no .*/a/3\.png"),
        (["c/1.png,y"], r"train\.csv, line 2: there is no .*/c/1\.png"),
        (["a/1.png,y", ",y"], r"train\.csv, line 3: the file is empty"),
        (["a/1.png,"], r"train\.csv, line 2: the label of 'a/1\.png' is empty"),
        (["a/1.png,y,z"], r"train\.csv, line 2: there are more values than columns"),
        (
            ["a/1.png,y", "a/1.png,z"],
            r"line 3: .*a/1\.png is 'z' here and 'y' in .*line 2; .*multi",
        ),
        (['"a/1.png,y'], r"train\.csv, line 2: unexpected end of data"),
        ([], r"train\.csv lists no images"),
        (["a/1.png,x"], r"test\.csv, line 2: the label 'y' is none of train_split='train', .* x$"),
    ],
)
def test_mistakes_are_named_by_file_and_line(
    csv_config: MakeConfig, tmp_path: pathlib.Path, lines: list[str], message: str
) -> None:
    write(tmp_path, "train", *lines)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        data.load_classification(csv_config())


def test_columns_and_lists_that_are_missing_are_named(
    csv_config: MakeConfig, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"eval_split='val': there is no .*/val\.csv"):
        data.load_classification(csv_config(eval_split="val"))
    write(tmp_path, "train", "a/1.png;y", header="file;label")
    with pytest.raises(UserError, match=r"line 1: there is no column 'file'.* and has file;label"):
        data.load_classification(csv_config())
    (tmp_path / "train.csv").write_bytes("file,label\nb/ü.png,y".encode("latin-1"))
    with pytest.raises(UserError, match=r"train\.csv is not UTF-8"):
        data.load_classification(csv_config())
