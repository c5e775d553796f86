"""A folder of image files as a data set: `<root>/<split>/<class>/<file>`."""

import os

import numpy as np
import tensorflow as tf

from dwconv_jax.data.classification.config import ClassificationConfig
from dwconv_jax.data.files import counted, list_images, list_names, warn_left_out
from dwconv_jax.data.stream import Source, Split, listed_split
from dwconv_jax.errors import UserError

_CHANNELS = 3  # all images are decoded as RGB


def open_folder(config: ClassificationConfig) -> Source:
    """Lists the image files of both splits; the folders of the training split name the classes.

    Raises:
      UserError: `data_dir` is not set, a split is missing, the evaluation split has a class that
        the training split lacks, or `mean` or `std` does not fit three channels.
      FileNotFoundError: there is no such folder, or no classes or no images in it.
    """
    config.check_channels(_CHANNELS)
    if config.data_dir is None:
        raise UserError(
            "config.dataset.data_dir=None: with dataset.name='folder' it must be the root folder"
        )
    root = os.path.expanduser(config.data_dir)
    if not tf.io.gfile.isdir(root):
        raise FileNotFoundError(
            f"config.dataset.data_dir={config.data_dir!r}: there is no such folder"
        )
    train = _files(config, "train_split", root)
    evaluation = _files(config, "eval_split", root)
    if extra := sorted(evaluation.keys() - train.keys()):
        raise UserError(
            f"config.dataset.eval_split={config.eval_split!r} has classes that "
            f"train_split={config.train_split!r} lacks: {', '.join(extra)}"
        )
    class_names = tuple(train)
    return Source(
        _split(train, class_names), _split(evaluation, class_names), class_names, _CHANNELS
    )


def _files(config: ClassificationConfig, field: str, root: str) -> dict[str, list[str]]:
    """The paths of each class of a split, all in alphabetical order."""
    name = getattr(config, field)
    if name not in (splits := _folders(root)):
        raise UserError(
            f"config.dataset.{field}={name!r}: {root} has no such folder; "
            f"it has {', '.join(splits) or 'no folders'}"
        )
    folder = os.path.join(root, name)
    class_names = _folders(folder)
    if not class_names:
        raise FileNotFoundError(
            f"config.dataset.{field}={name!r}: {folder} has no folders; it must have "
            "one for each class"
        )
    if beside := len(list_names(folder)) - len(class_names):
        warn_left_out(folder, counted(beside, "file"), "images belong in a folder for each class")
    return {
        class_name: [
            os.path.join(folder, class_name, file)
            for file in list_images(os.path.join(folder, class_name))
        ]
        for class_name in class_names
    }


def _folders(path: str) -> list[str]:
    return [name for name in list_names(path) if tf.io.gfile.isdir(os.path.join(path, name))]


def _split(files: dict[str, list[str]], class_names: tuple[str, ...]) -> Split:
    paths = [path for images in files.values() for path in images]
    labels = [class_names.index(name) for name, images in files.items() for _ in images]
    return listed_split(paths, np.asarray(labels))
