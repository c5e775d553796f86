"""A folder of image files as a data set: `<root>/<split>/<class>/<file>`."""

import os

import numpy as np
import tensorflow as tf

from dwconv_jax.data.classification.config import ClassificationConfig, check_channels
from dwconv_jax.data.stream import Source, Split
from dwconv_jax.errors import UserError

_FORMATS = (".jpg", ".jpeg", ".png")
_CHANNELS = 3  # whatever the files hold becomes RGB


def open_folder(config: ClassificationConfig) -> Source:
    """Lists the image files of both splits; the training split's folders name the classes.

    Raises:
        ValueError: `data_dir` is not set, a split is missing, evaluation has other classes, or
            `mean` or `std` does not fit three channels.
        FileNotFoundError: there is no such folder, or no classes or no images in it.
    """
    check_channels(config, _CHANNELS)
    if config.data_dir is None:
        raise UserError("dataset.data_dir=None: with dataset.name='folder' it must be the root")
    root = os.path.expanduser(config.data_dir)
    if not tf.io.gfile.isdir(root):
        raise FileNotFoundError(f"dataset.data_dir={config.data_dir!r}: there is no such folder")
    train = _files(config, "train_split", root)
    evaluation = _files(config, "eval_split", root)
    if extra := sorted(evaluation.keys() - train.keys()):
        raise UserError(
            f"dataset.eval_split={config.eval_split!r} has classes that "
            f"{config.train_split!r} lacks: {', '.join(extra)}"
        )
    class_names = tuple(train)
    return Source(
        _split(train, class_names), _split(evaluation, class_names), class_names, _CHANNELS
    )


def _files(config: ClassificationConfig, field: str, root: str) -> dict[str, list[str]]:
    """Returns the paths of each class of a split, everything in alphabetical order."""
    name = getattr(config, field)
    if name not in (splits := _folders(root)):
        raise UserError(
            f"dataset.{field}={name!r}: {root} has no such folder; "
            f"it has {', '.join(splits) or 'no folders'}"
        )
    files = {}
    for class_name in _folders(folder := os.path.join(root, name)):
        files[class_name] = _images(os.path.join(folder, class_name))
    if not files:
        raise FileNotFoundError(
            f"dataset.{field}={name!r}: {folder} has no folders; it must have one for each class"
        )
    return files


def _folders(path: str) -> list[str]:
    return [name for name in _list(path) if tf.io.gfile.isdir(os.path.join(path, name))]


def _images(path: str) -> list[str]:
    images = [name for name in _list(path) if name.lower().endswith(_FORMATS)]
    if not images:
        raise FileNotFoundError(
            f"class folder {path} has no images; legal file names end in {', '.join(_FORMATS)}"
        )
    return [os.path.join(path, name) for name in images]


def _list(path: str) -> list[str]:
    # Object stores end the names of folders with a slash.
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(path))
    return sorted(name for name in names if not name.startswith("."))


def _split(files: dict[str, list[str]], class_names: tuple[str, ...]) -> Split:
    paths = [path for images in files.values() for path in images]
    labels = [class_names.index(name) for name, images in files.items() for _ in images]
    examples = {"index": np.arange(len(paths)), "label": np.asarray(labels), "path": paths}
    return Split(
        examples=tf.data.Dataset.from_tensor_slices(examples),
        num_examples=len(paths),
        shuffle_buffer=len(paths),  # names are small
        read=lambda example: tf.io.read_file(example["path"]),
        describe=lambda example: example["path"].numpy().decode(),
    )
