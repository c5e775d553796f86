"""CSV lists with a column of 0 and 1 for each class."""

import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dwconv_jax import data
from dwconv_jax.errors import UserError
from tests.data.conftest import MakeConfig

HEADER = "file, dog,cat,bird"


@pytest.fixture
def config(tmp_path: pathlib.Path, make_config: MakeConfig) -> ConfigDict:
    """A configuration of the lists train.csv and test.csv beside two images."""
    for name in ("1.png", "2.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    write(tmp_path, "train", "1.png,1,0,0", "2.png, 1,1.0,False")
    write(tmp_path, "test", "0,2.png,1,1", header="cat,file,bird,dog")
    lists = dict(name="csv", data_dir=str(tmp_path), label_separator=";", threshold=None)
    return make_config(image_size=4, **lists)


def write(folder: pathlib.Path, split: str, *lines: str, header: str = HEADER) -> None:
    (folder / f"{split}.csv").write_text("\n".join([header, *lines]) + "\n")


def test_columns_are_classes_in_their_order(config: ConfigDict) -> None:
    dataset = data.load_multilabel(config)
    assert dataset.class_names == ("dog", "cat", "bird")  # also what no image has
    assert dataset.count_labels().tolist() == [2, 1, 0]
    (batch,) = dataset.eval_batches(1)
    np.testing.assert_array_equal(batch["label"], [[1, 0, 1]])


def test_one_list_may_have_columns_and_the_other_labels(
    config: ConfigDict, tmp_path: pathlib.Path
) -> None:
    write(tmp_path, "test", "1.png,bird;dog", "2.png,", header="file,label")
    (batch,) = data.load_multilabel(config).eval_batches(2)
    np.testing.assert_array_equal(batch["label"], [[1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("split", "header", "line", "message"),
    [
        ("train", HEADER, "2.png,1,2,0", r"train\.csv, line 3, column 'cat': .* true, got '2'"),
        ("test", HEADER, "2.png,1,0,", r"test\.csv, line 3, column 'bird': .* got ''"),
        ("train", HEADER, "2.png,1,0", r"train\.csv, line 3, column 'bird': .* got ''"),
        ("train", HEADER, "2.png,1,0,0,0", r"train\.csv, line 3: there are more values"),
        ("train", "file,dog,dog", "2.png,1,0", r"train\.csv, line 1: there are 2 columns 'dog'"),
        ("train", "file,dog,", "2.png,1,0", r"train\.csv, line 1: column 3 has no name"),
        ("train", "path,dog", "2.png,1", r"line 1: .*'file'.*, or file and a column for each"),
        ("train", "file", "2.png", r"train\.csv, line 1: there is no column 'label'"),
        ("test", "file,dog,cat,cow", "2.png,1,0,0", r"line 1: the column 'cow' is none of train"),
        ("test", "file,dog,cat", "2.png,1,0", r"test\.csv, line 1: .* no column for 'bird'"),
        ("train", "file,labels", "2.png,dog", r"column 'labels': .* without a column 'label'"),
    ],
)
def test_mistakes_are_named_by_file_line_and_column(
    config: ConfigDict, tmp_path: pathlib.Path, split: str, header: str, line: str, message: str
) -> None:
    good = ",".join(["1.png", *("0" for _ in header.split(",")[1:])])
    write(tmp_path, split, good, line, header=header)
    with pytest.raises(UserError, match=message):
        data.load_multilabel(config)


def test_columns_are_for_several_labels_an_image(config: ConfigDict) -> None:
    del config.label_separator, config.threshold
    with pytest.raises(UserError, match="line 1: there is no column 'label'"):
        data.load_classification(config)
