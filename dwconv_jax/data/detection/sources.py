"""Images with objects: from COCO's folders, or from tfds data sets with instance masks."""

import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dwconv_jax.data.catalog import find_builder, prepare_builder
from dwconv_jax.data.detection.coco import Annotations, parse_annotations, read_annotations
from dwconv_jax.data.detection.config import DetectionConfig
from dwconv_jax.data.detection.info import check_num_classes, class_names_of
from dwconv_jax.data.detection.masks import encode_mask
from dwconv_jax.data.files import all_names
from dwconv_jax.data.prepared import read_split
from dwconv_jax.data.stream import Split
from dwconv_jax.errors import UserError

# Files of annotations and folders of images: COCO's, COCO's with images apart, Roboflow's.
_LAYOUTS = (
    ("annotations/instances_{split}.json", "{split}"),
    ("annotations/instances_{split}.json", "images/{split}"),
    ("{split}/_annotations.coco.json", "{split}"),
)
_MIN_SIDE = 32  # of an image to train on, in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionSplit(Split):
    """A split whose examples hold only their 'index'.

    Attributes:
      annotations: of its images.
    """

    annotations: Annotations


def _make_split(
    annotations: Annotations,
    read: Callable[[tf.Tensor], tf.Tensor],
    describe: Callable[[int], str],
) -> DetectionSplit:
    """A split from functions of an image's index: its encoded content, and its name."""
    count = len(annotations.file_names)
    return DetectionSplit(
        examples=tf.data.Dataset.range(count).map(lambda index: {"index": index}),
        num_examples=count,
        shuffle_buffer=count,
        read=lambda example: read(example["index"]),
        describe=lambda example: describe(int(example["index"])),
        annotations=annotations,
    )


def open_detection(config: DetectionConfig) -> tuple[DetectionSplit, DetectionSplit]:
    """Opens the training and the evaluation split, and checks all annotations.

    Raises:
      UserError: there is no such data set or split, it has no instance masks, an annotation cannot
        be used, or the splits have different classes.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    opened = _open_folder if config.name == "folder" else _open_prepared
    train, evaluation = (opened(config, field) for field in ("train_split", "eval_split"))
    check_num_classes(config, len(train.annotations.categories))
    if train.annotations.categories != evaluation.annotations.categories:
        raise UserError(
            f"config.dataset.train_split={config.train_split!r} and "
            f"eval_split={config.eval_split!r} have "
            f"other categories: {_listed(train)} against {_listed(evaluation)}"
        )
    return _without_empty(train), evaluation


def _without_empty(split: DetectionSplit) -> DetectionSplit:
    """Drops tiny images and images without annotations, as mmdet does; crowds count."""
    sizes, annotations = split.annotations.sizes, split.annotations.annotations
    kept = [i for i, a in enumerate(annotations) if a and min(sizes[i]) >= _MIN_SIDE]
    return _make_split(
        split.annotations.select(kept),
        read=lambda index: split.read({"index": tf.gather(kept, index)}),
        describe=lambda index: split.describe({"index": tf.constant(kept[index])}),
    )


def _listed(split: DetectionSplit) -> str:
    return ", ".join(f"{k} {name}" for k, name in split.annotations.categories.items())


def _open_folder(config: DetectionConfig, field: str) -> DetectionSplit:
    if config.data_dir is None:
        raise UserError(
            "config.dataset.data_dir=None: with dataset.name='folder' it must be the root folder"
        )
    root, name = os.path.expanduser(config.data_dir), getattr(config, field)
    layouts = [
        tuple(os.path.join(root, part.format(split=name)) for part in layout) for layout in _LAYOUTS
    ]
    found = [(a, b) for a, b in layouts if tf.io.gfile.exists(a) and tf.io.gfile.isdir(b)]
    if not found:
        wanted = " or ".join(f"{file} with {folder}" for file, folder in layouts)
        raise FileNotFoundError(f"config.dataset.{field}={name!r}: there is no {wanted}")
    file, folder = found[0]
    annotations = read_annotations(file, config.max_pixels)
    paths = [os.path.join(folder, file_name) for file_name in annotations.file_names]
    _check_files(paths, file)
    return _make_split(
        annotations,
        read=lambda index: tf.io.read_file(tf.gather(paths, index)),
        describe=paths.__getitem__,
    )


def _check_files(paths: list[str], source: str) -> None:
    there = {
        os.path.join(folder, name)
        for folder in {os.path.dirname(path) for path in paths}
        if tf.io.gfile.isdir(folder)
        for name in all_names(folder)
    }
    if missing := [path for path in paths if path not in there]:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(paths)} images of {source} are missing; the first one is "
            f"{missing[0]}"
        )


def _open_prepared(config: DetectionConfig, field: str) -> DetectionSplit:
    """A split of tfds, held in memory with its images encoded and its masks as RLEs."""
    builder = find_builder(config)
    names = class_names_of(config, builder)
    builder = prepare_builder(config, builder)
    images: list[bytes] = []
    content: dict[str, list] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    split = getattr(config, field)
    for example in tfds.as_numpy(read_split(config, field, builder, encoded=("image",))):
        _append(content, example, f"example {len(images)} of {config.name!r}, split {split!r}")
        images.append(example["image"])
    annotations = parse_annotations(content, config.max_pixels)
    return _make_split(
        annotations,
        read=lambda index: tf.ensure_shape(
            tf.numpy_function(images.__getitem__, [index], tf.string), []
        ),
        describe=annotations.file_names.__getitem__,
    )


def _append(content: dict[str, list], example: dict, name: str) -> None:
    """Adds an example of tfds to the content of a COCO file."""
    instances, image_id = example["instances"][..., 0], len(content["images"])
    height, width = instances.shape
    content["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
    scale = np.array([height, width, height, width])
    for i, label in enumerate(example["objects"]["label"].tolist()):
        top, left, bottom, right = (example["objects"]["bbox"][i] * scale).round(3).tolist()
        mask = instances == i + 1
        content["annotations"].append(
            {
                "id": len(content["annotations"]) + 1,
                "image_id": image_id,
                "category_id": label,
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": encode_mask(mask),
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
        )
