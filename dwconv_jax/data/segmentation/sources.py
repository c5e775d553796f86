"""Images with label maps: from tfds, or from folders in one of two layouts."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from dwconv_jax.data.catalog import prepare_builder
from dwconv_jax.data.files import counted, list_images, list_names, warn_left_out
from dwconv_jax.data.prepared import open_split
from dwconv_jax.data.segmentation.config import CHANNELS, SegmentationConfig
from dwconv_jax.data.segmentation.info import find_segmentation, name_classes
from dwconv_jax.data.stream import Source, Split
from dwconv_jax.errors import UserError

_LABELS = ".png"
# SceneParsing's (the official ADE20K benchmark), and the authors'.
_LAYOUTS = (("images/{split}", "annotations/{split}"), ("{split}/image", "{split}/label"))


def open_segmentation(config: SegmentationConfig) -> Source:
    """Opens both splits; `Split.read` returns an encoded image and an encoded label map.

    Raises:
      UserError: there is no such data set or split, it is not a segmentation, or the number of
        classes is neither known nor given.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    return _open_folder(config) if config.name == "folder" else _open_prepared(config)


def _open_prepared(config: SegmentationConfig) -> Source:
    builder, class_names = find_segmentation(config)
    builder = prepare_builder(config, builder)

    def split(field: str) -> Split:
        opened = open_split(config, field, builder, encoded=("image", "annotation"))
        return dataclasses.replace(opened, read=lambda e: (e["image"], e["annotation"]))

    return Source(split("train_split"), split("eval_split"), class_names, CHANNELS)


def _open_folder(config: SegmentationConfig) -> Source:
    if config.data_dir is None:
        raise UserError(
            "config.dataset.data_dir=None: with dataset.name='folder' it must be the root folder"
        )
    class_names = name_classes(config, None)
    return Source(
        _folder_split(config, "train_split"),
        _folder_split(config, "eval_split"),
        class_names,
        CHANNELS,
    )


def _folder_split(config: SegmentationConfig, field: str) -> Split:
    images, labels = _pairs(config, field)
    examples = {"index": np.arange(len(images)), "image": images, "annotation": labels}
    return Split(
        examples=tf.data.Dataset.from_tensor_slices(examples),
        num_examples=len(images),
        shuffle_buffer=len(images),  # paths are small
        read=lambda e: (tf.io.read_file(e["image"]), tf.io.read_file(e["annotation"])),
        describe=lambda e: f"{e['image'].numpy().decode()} with {e['annotation'].numpy().decode()}",
    )


def _pairs(config: SegmentationConfig, field: str) -> tuple[list[str], list[str]]:
    """Paths of the images of a split, in alphabetical order, and of their label maps."""
    name, root = getattr(config, field), os.path.expanduser(config.data_dir or "")
    layouts = [
        tuple(os.path.join(root, part.format(split=name)) for part in layout) for layout in _LAYOUTS
    ]
    found = [layout for layout in layouts if all(map(tf.io.gfile.isdir, layout))]
    if not found:
        wanted = " or ".join(f"{images} with {labels}" for images, labels in layouts)
        raise FileNotFoundError(f"config.dataset.{field}={name!r}: there is no {wanted}")
    image_folder, label_folder = found[0]
    files = list_images(image_folder)
    labels = [os.path.splitext(file)[0] + _LABELS for file in files]
    there = set(list_names(label_folder))
    missing = [file for file in labels if file not in there]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(files)} images in {image_folder} have no label map in "
            f"{label_folder}; the first one missing is {missing[0]}"
        )
    if unused := len(there.difference(labels)):
        warn_left_out(label_folder, counted(unused, "file"), "they belong to no image")
    return (
        [os.path.join(image_folder, file) for file in files],
        [os.path.join(label_folder, file) for file in labels],
    )
