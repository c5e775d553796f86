"""A CSV list of image files and their labels as a data set."""

import csv
import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.stream import Source, Split, listed_split
from dwconv_jax.errors import UserError

_CHANNELS = 3  # all images are decoded as RGB
_FILE, _LABEL = "file", "label"
_CELLS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class Row(NamedTuple):
    """A line of a list: the path of its image, its labels, and where it is, for errors."""

    path: str
    labels: tuple[str, ...]
    place: str


class LabelList(NamedTuple):
    """The lines of a list and, if each class has a column, the classes in their order."""

    path: str
    rows: list[Row]
    columns: tuple[str, ...] | None


def open_csv(config: ClassificationConfig, separator: str | None = None) -> Source:
    """Reads the lists of both splits; the labels or columns of the training split name the classes.

    Args:
      config: `train_split` and `eval_split` name the lists, files below `data_dir` whose suffix
        `.csv` may be left out. Their columns `file` and `label` give the path of an image, below
        `data_dir` or, without one, beside the list, and its label. Other columns are ignored.
      separator: stands between the labels of an image, which may be any number; instead of the
        column `label` a list may then have a column of 0 and 1 for each class. None: each image has
        one label.

    Returns:
      A source whose labels are int64 scalars or, with a separator, uint8 `[num_classes]`, 1 for the
      labels of an image.

    Raises:
      UserError: a list or line cannot be used; the message names both.
      FileNotFoundError: a list or an image is missing.
    """
    config.check_channels(_CHANNELS)
    train = _read_list(config, "train_split", separator)
    evaluation = _read_list(config, "eval_split", separator)
    class_names = train.columns or tuple(sorted({k for row in train.rows for k in row.labels}))
    if not class_names:
        raise UserError(f"config.dataset.train_split={config.train_split!r} has no labels")
    classes = {name: k for k, name in enumerate(class_names)}
    _check_same_classes(evaluation, classes, config.train_split)

    def split(rows: list[Row]) -> Split:
        return listed_split([row.path for row in rows], _targets(rows, classes, separator))

    return Source(split(train.rows), split(evaluation.rows), class_names, _CHANNELS)


def _check_same_classes(evaluation: LabelList, classes: dict[str, int], train_split: str) -> None:
    if evaluation.columns is None:
        found = ((row.place, "label", name) for row in evaluation.rows for name in row.labels)
    else:
        found = ((f"{evaluation.path}, line 1", "column", name) for name in evaluation.columns)
    for place, kind, name in found:
        if name not in classes:
            raise UserError(
                f"{place}: the {kind} {name!r} is none of train_split={train_split!r}, which has "
                f"{', '.join(list(classes)[:10])}" + (", ..." if len(classes) > 10 else "")
            )
    if evaluation.columns is not None and len(evaluation.columns) < len(classes):
        missing = next(name for name in classes if name not in evaluation.columns)
        raise UserError(
            f"{evaluation.path}, line 1: there is no column for {missing!r}, a class of "
            f"train_split={train_split!r}"
        )


def _targets(rows: list[Row], classes: dict[str, int], separator: str | None) -> np.ndarray:
    """Labels as numbers `[N]`, or with a separator as `[N, K]`."""
    if separator is None:
        return np.array([classes[row.labels[0]] for row in rows])
    targets = np.zeros((len(rows), len(classes)), np.uint8)
    for target, row in zip(targets, rows, strict=True):
        target[[classes[label] for label in row.labels]] = 1
    return targets


def _read_list(config: ClassificationConfig, field: str, separator: str | None) -> LabelList:
    name, root = getattr(config, field), os.path.expanduser(config.data_dir or "")
    path = os.path.join(root, os.path.expanduser(name))
    path = path if path.endswith(".csv") else f"{path}.csv"
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"config.dataset.{field}={name!r}: there is no {path}")
    base = root if config.data_dir else os.path.dirname(path)
    found = _parse(path, base, separator)
    if not found.rows:
        raise UserError(f"{path} lists no images")
    _check_files(found.rows)
    if separator is None:
        _check_unambiguous(found.rows)
    return found


def _parse(path: str, base: str, separator: str | None) -> LabelList:
    try:
        text = tf.io.gfile.GFile(path, "rb").read().decode("utf-8-sig")  # as Excel writes it
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8; save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        columns = _class_columns(reader.fieldnames, separator, f"{path}, line 1")
        rows = [
            _row(fields, columns, base, separator, f"{path}, line {reader.line_num}")
            for fields in reader
        ]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: {error}") from error
    return LabelList(path, rows, columns)


def _class_columns(
    names: Sequence[str], separator: str | None, place: str
) -> tuple[str, ...] | None:
    """The classes of a list with a column for each; None for a list with the column `label`."""
    if separator is None or _LABEL in names or _FILE not in names or len(names) < 2:
        if missing := [column for column in (_FILE, _LABEL) if column not in names]:
            others = "" if separator is None else f", or {_FILE} and a column for each class"
            raise UserError(
                f"{place}: there is no column {missing[0]!r}; the first line must name the columns "
                f"{_FILE},{_LABEL}{others}, and has {','.join(names) or 'none'}"
            )
        return None
    for i, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{place}: column {i} has no name")
        if names.count(name) > 1:
            raise UserError(f"{place}: there are {names.count(name)} columns {name!r}")
    return tuple(name for name in names if name != _FILE)


def _row(
    fields: dict[str, str | None],
    columns: Sequence[str] | None,
    base: str,
    separator: str | None,
    place: str,
) -> Row:
    file = (fields[_FILE] or "").strip()
    if None in fields:
        raise UserError(f"{place}: there are more values than columns; quote those with a comma")
    if not file:
        raise UserError(f"{place}: the {_FILE} is empty")
    if columns is None:
        labels = _split((fields[_LABEL] or "").strip(), separator)
        if separator is None and not labels:
            raise UserError(f"{place}: the {_LABEL} of {file!r} is empty")
    else:
        labels = [name for name in columns if _is_one(fields[name], name, place)]
    return Row(os.path.join(base, os.path.expanduser(file)), tuple(labels), place)


def _split(label: str, separator: str | None) -> list[str]:
    parts = [label] if separator is None else [part.strip() for part in label.split(separator)]
    return [part for part in parts if part]


def _is_one(cell: str | None, column: str, place: str) -> bool:
    cell = (cell or "").strip()
    if cell.lower() not in _CELLS:
        raise UserError(
            f"{place}, column {column!r}: the value must be one of {', '.join(_CELLS)}, got "
            f"{cell!r}; without a column {_LABEL!r}, every column but {_FILE!r} is a class"
        )
    return _CELLS[cell.lower()]


def _check_files(rows: list[Row]) -> None:
    """Raises a FileNotFoundError for the first image that is missing; lists each folder once."""
    there: dict[str, set[str]] = {}
    for row in rows:
        folder, name = os.path.split(row.path)
        if folder not in there:
            exists = tf.io.gfile.isdir(folder)
            there[folder] = set(tf.io.gfile.listdir(folder)) if exists else set()
        if name not in there[folder]:
            raise FileNotFoundError(f"{row.place}: there is no {row.path}")


def _check_unambiguous(rows: list[Row]) -> None:
    """Raises a UserError for an image that two lines give different labels."""
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if other.labels != row.labels:
            raise UserError(
                f"{row.place}: {row.path} is {row.labels[0]!r} here and {other.labels[0]!r} in "
                f"{other.place}; images of several labels are config.task='multilabel'"
            )
