"""A CSV list of image files and their labels as a data set."""

import csv
import io
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.stream import Source, Split, listed_split
from dwconv_jax.errors import UserError

_CHANNELS = 3  # all images are decoded as RGB
_FILE, _LABEL = "file", "label"


class Row(NamedTuple):
    """A line of a list: the path of its image, its labels, and where it is, for errors."""

    path: str
    labels: tuple[str, ...]
    place: str


def open_csv(config: ClassificationConfig, separator: str | None = None) -> Source:
    """Reads the lists of both splits; the labels of the training split name the classes.

    Args:
      config: `train_split` and `eval_split` name the lists, files below `data_dir` whose suffix
        `.csv` may be left out. Their columns `file` and `label` give the path of an image, below
        `data_dir` or, without one, beside the list, and its label. Other columns are ignored.
      separator: stands between the labels of an image, which may be any number. None: each image
        has one label.

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
    class_names = tuple(sorted({label for row in train for label in row.labels}))
    if not class_names:
        raise UserError(f"config.dataset.train_split={config.train_split!r} has no labels")
    classes = {name: k for k, name in enumerate(class_names)}
    for row in evaluation:
        if unknown := [label for label in row.labels if label not in classes]:
            raise UserError(
                f"{row.place}: the label {unknown[0]!r} is none of "
                f"train_split={config.train_split!r}, which has {', '.join(class_names[:10])}"
                + (", ..." if len(class_names) > 10 else "")
            )

    def split(rows: list[Row]) -> Split:
        return listed_split([row.path for row in rows], _targets(rows, classes, separator))

    return Source(split(train), split(evaluation), class_names, _CHANNELS)


def _targets(rows: list[Row], classes: dict[str, int], separator: str | None) -> np.ndarray:
    """Labels as numbers `[N]`, or with a separator as `[N, K]`."""
    if separator is None:
        return np.array([classes[row.labels[0]] for row in rows])
    targets = np.zeros((len(rows), len(classes)), np.uint8)
    for target, row in zip(targets, rows, strict=True):
        target[[classes[label] for label in row.labels]] = 1
    return targets


def _read_list(config: ClassificationConfig, field: str, separator: str | None) -> list[Row]:
    name, root = getattr(config, field), os.path.expanduser(config.data_dir or "")
    path = os.path.join(root, os.path.expanduser(name))
    path = path if path.endswith(".csv") else f"{path}.csv"
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"config.dataset.{field}={name!r}: there is no {path}")
    base = root if config.data_dir else os.path.dirname(path)
    rows = list(_parse(path, base, separator))
    if not rows:
        raise UserError(f"{path} lists no images")
    _check_files(rows)
    if separator is None:
        _check_unambiguous(rows)
    return rows


def _parse(path: str, base: str, separator: str | None) -> Iterator[Row]:
    try:
        text = tf.io.gfile.GFile(path, "rb").read().decode("utf-8-sig")  # as Excel writes it
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8; save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = reader.fieldnames or ()
        if missing := [column for column in (_FILE, _LABEL) if column not in columns]:
            raise UserError(
                f"{path}, line 1: there is no column {missing[0]!r}; the first line must name the "
                f"columns {_FILE},{_LABEL}, and has {','.join(columns) or 'none'}"
            )
        for fields in reader:
            yield _row(fields, base, separator, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: {error}") from error


def _row(fields: dict[str, str | None], base: str, separator: str | None, place: str) -> Row:
    file, label = ((fields[column] or "").strip() for column in (_FILE, _LABEL))
    if None in fields:
        raise UserError(f"{place}: there are more values than columns; quote those with a comma")
    if not file:
        raise UserError(f"{place}: the {_FILE} is empty")
    labels = [label] if separator is None else [part.strip() for part in label.split(separator)]
    labels = [part for part in labels if part]
    if separator is None and not labels:
        raise UserError(f"{place}: the {_LABEL} of {file!r} is empty")
    return Row(os.path.join(base, os.path.expanduser(file)), tuple(labels), place)


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
