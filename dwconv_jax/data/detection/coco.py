"""Object annotations in COCO's format: reads and checks a JSON file."""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from pycocotools import mask as mask_utils

from dwconv_jax.data.config import MAX_PIXELS
from dwconv_jax.data.detection.masks import Json, are_numbers, mask_complaint, short, to_rle
from dwconv_jax.data.settings import is_finite, is_int
from dwconv_jax.errors import UserError

Array = np.ndarray

_MAX_NUMBER = 1e12  # of boxes and areas
_MIN_SIDE = 1.0  # of a box to train on, in pixels
_IMAGE_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (int, str),
    "file_name": (str,),
    "height": (int,),
    "width": (int,),
}


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
      boxes: float32 `[n, 4]`, x1, y1, x2, y2 in pixels.
      classes: int32 `[n]`.
      masks: an RLE or polygons for each object.
      size: height and width of the image.
    """

    boxes: Array
    classes: Array
    masks: list[Any]
    size: tuple[int, int]

    def mask(self, index: int) -> Array:
        """The mask of one object, uint8 `[height, width]`, 0 or 1."""
        return mask_utils.decode(to_rle(self.masks[index], *self.size))


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Images and their annotations.

    Attributes:
      file_names: of the images.
      sizes: int32 `[n, 2]`, height and width of each.
      categories: names of the classes by their ids, ascending.
      annotations: of each image, in COCO's format.
    """

    file_names: list[str]
    sizes: Array
    categories: dict[int, str]
    annotations: list[list[Json]]

    def select(self, images: Iterable[int]) -> "Annotations":
        """Some of the images."""
        chosen = list(images)
        return Annotations(
            [self.file_names[i] for i in chosen],
            self.sizes[chosen],
            self.categories,
            [self.annotations[i] for i in chosen],
        )

    def num_objects(self) -> Array:
        """The number of objects to train on in each image, int `[n]`."""
        return np.array(
            [
                sum(_is_trainable(a, int(height), int(width)) for a in annotations)
                for (height, width), annotations in zip(self.sizes, self.annotations, strict=True)
            ],
            np.int64,
        )

    def objects(self, image: int) -> Objects:
        """The objects of an image to train on: no crowds, nothing without area or outside it."""
        height, width = map(int, self.sizes[image])
        kept = [a for a in self.annotations[image] if _is_trainable(a, height, width)]
        corners = np.array([a["bbox"] for a in kept], np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        index = {category: i for i, category in enumerate(self.categories)}
        return Objects(
            boxes=corners.astype(np.float32),
            classes=np.array([index[a["category_id"]] for a in kept], np.int32),
            masks=[a["segmentation"] for a in kept],
            size=(height, width),
        )

    def to_evaluate(self) -> Json:
        """All annotations, crowds included, as a COCO dictionary.

        Image ids are positions, category ids are classes, and masks are RLEs.
        """
        index = {category: i for i, category in enumerate(self.categories)}
        entries: list[Json] = []
        for image, (size, annotations) in enumerate(zip(self.sizes, self.annotations, strict=True)):
            for annotation in annotations:
                rle = to_rle(annotation["segmentation"], *map(int, size))
                entries.append(
                    {
                        "id": len(entries) + 1,  # to pycocotools, 0 means no match
                        "image_id": image,
                        "category_id": index[annotation["category_id"]],
                        "bbox": annotation["bbox"],
                        "segmentation": rle,
                        "area": annotation.get("area", float(mask_utils.area(rle))),
                        "iscrowd": int(annotation.get("iscrowd", 0)),
                    }
                )
        return {
            "images": [
                {"id": i, "file_name": name, "height": int(height), "width": int(width)}
                for i, (name, (height, width)) in enumerate(
                    zip(self.file_names, self.sizes, strict=True)
                )
            ],
            "categories": [
                {"id": i, "name": name} for i, name in enumerate(self.categories.values())
            ],
            "annotations": entries,
        }


def read_annotations(path: str, max_pixels: int = MAX_PIXELS) -> Annotations:
    """Reads and checks a JSON file in COCO's format.

    Args:
      path: of the file.
      max_pixels: the most pixels of an image, below 2**31.

    Raises:
      UserError: the file is not in COCO's format, or an image or annotation in it cannot be used;
        the message names it.
    """
    with tf.io.gfile.GFile(path) as file:
        try:
            return parse_annotations(json.load(file), max_pixels)
        except RecursionError as error:
            raise UserError(f"{path}: the JSON is nested too deeply") from error
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error


def parse_annotations(content: Any, max_pixels: int = MAX_PIXELS) -> Annotations:
    """Checks the content of a COCO file; see `read_annotations`."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"COCO's format needs a list {key!r}")
    categories = _categories(content["categories"])
    by_id: dict[Any, int] = {}
    sizes = np.zeros((len(content["images"]), 2), np.int32)
    for position, image in enumerate(content["images"]):
        sizes[position] = _size(image, position, max_pixels)
        if by_id.setdefault(image["id"], position) != position:
            raise UserError(f"two images have the id {short(image['id'])}")
    annotations: list[list[Json]] = [[] for _ in by_id]
    for number, annotation in enumerate(content["annotations"]):
        name = _name("annotation", annotation, number)
        position = _find(by_id, image_id := annotation.get("image_id"))
        if position is None:
            raise UserError(f"{name}: there is no image with its image_id={short(image_id)}")
        if complaint := _complaint(annotation, categories, *map(int, sizes[position])):
            file = content["images"][position]["file_name"]
            raise UserError(f"{name} of image {short(file)}: {complaint}")
        annotations[position].append(annotation)
    names = [image["file_name"] for image in content["images"]]
    return Annotations(names, sizes, categories, annotations)


def _name(kind: str, entry: Any, number: int) -> str:
    """What errors call an entry of a list; UserError if it is not an object."""
    if not isinstance(entry, dict):
        raise UserError(f"{kind} number {number} must be a JSON object, found {short(entry)}")
    return f"{kind} {short(entry['id'])}" if "id" in entry else f"{kind} number {number}"


def _find(mapping: dict[Any, Any], key: Any) -> Any:
    """The value of an id; None if there is none, or if it is no number or string."""
    is_id = isinstance(key, int | float | str) and not isinstance(key, bool)
    return mapping.get(key) if is_id else None


def _categories(entries: list[Any]) -> dict[int, str]:
    for number, entry in enumerate(entries):
        _name("category", entry, number)
        if not is_int(entry.get("id")) or not isinstance(entry.get("name"), str):
            raise UserError(f"category {short(entry)} needs an int 'id' and a 'name'")
    names = {entry["id"]: entry["name"] for entry in entries}
    if len(names) != len(entries) or not names:
        raise UserError("categories need one id each, and there must be at least one")
    return dict(sorted(names.items()))


def _size(image: Any, number: int, max_pixels: int) -> tuple[int, int]:
    """Height and width of an entry of `images`; UserError if it cannot be used."""
    _name("image", image, number)
    name = f"image {short(image.get('file_name', image.get('id', number)))}"
    for key, kind in _IMAGE_FIELDS.items():
        if not isinstance(value := image.get(key), kind) or isinstance(value, bool):
            wanted = " or ".join(k.__name__ for k in kind)
            raise UserError(f"{name}: {key}={short(value)} must be of type {wanted}")
    if _leaves_folder(image["file_name"]):
        raise UserError(f"{name}: file_name must be a path inside the folder of the images")
    height, width = image["height"], image["width"]
    if height < 1 or width < 1 or height * width > max_pixels:
        raise UserError(
            f"{name} has {short(height)} x {short(width)} pixels; legal are 1 to "
            f"config.dataset.max_pixels={max_pixels}"
        )
    return height, width


def _leaves_folder(path: str) -> bool:
    """Whether a path is absolute, climbs out of its folder, or is none."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return True
    return os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == ".." or "\0" in path


def _complaint(annotation: Json, categories: dict[int, str], height: int, width: int) -> str | None:
    """What is wrong with an annotation; boxes without area or outside the image are legal."""
    category = annotation.get("category_id")
    if _find(categories, category) is None:
        return f"category_id={short(category)} is not among the categories ({_some(categories)})"
    box = annotation.get("bbox")
    if not are_numbers(box) or len(box) != 4 or max(map(abs, box)) > _MAX_NUMBER:
        return f"bbox={short(box)} must be four numbers: x, y, width, height"
    area = annotation.get("area", 0)
    if not is_finite(area) or abs(area) > _MAX_NUMBER:
        return f"area={short(area)} must be a number"
    for flag in ("iscrowd", "ignore"):
        if annotation.get(flag, 0) not in (0, 1):
            return f"{flag}={short(annotation[flag])} must be 0 or 1"
    return mask_complaint(annotation.get("segmentation"), height, width)


def _is_trainable(annotation: Json, height: int, width: int) -> bool:
    """Whether mmdet's CocoDataset trains on an annotation."""
    x, y, box_width, box_height = annotation["bbox"]
    seen = max(0, min(x + box_width, width) - max(x, 0)) * max(
        0, min(y + box_height, height) - max(y, 0)
    )
    return (
        not annotation.get("ignore")
        and not annotation.get("iscrowd")
        and seen > 0
        and annotation.get("area", 1) > 0
        and min(box_width, box_height) >= _MIN_SIDE
    )


def _some(categories: dict[int, str]) -> str:
    ids = list(map(short, categories))
    return ", ".join(ids if len(ids) <= 10 else [*ids[:10], "..."])
