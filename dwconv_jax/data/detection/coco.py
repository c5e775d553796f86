"""Object annotations in COCO's format: reads and checks a JSON file.

Masks are polygons or run-length encodings (RLE), compressed or not, as in pycocotools.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from pycocotools import mask as mask_utils

from dwconv_jax.errors import UserError

Array = np.ndarray
Json = dict[str, Any]

_MIN_POLYGON = 6  # numbers: three corners
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


def to_rle(segmentation: Any, height: int, width: int) -> Json:
    """Converts polygons (to their union) or an uncompressed RLE to a compressed RLE."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= _MIN_POLYGON]
        return mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_utils.frPyObjects(segmentation, height, width)
    return segmentation


def encode_mask(mask: Array) -> Json:
    """Encodes a mask, bool `[height, width]`, as an RLE that JSON can hold."""
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def read_annotations(path: str) -> Annotations:
    """Reads and checks a JSON file in COCO's format.

    Raises:
      UserError: the file is not in COCO's format, or an image or annotation in it cannot be used;
        the message names it.
    """
    with tf.io.gfile.GFile(path) as file:
        try:
            return parse_annotations(json.load(file))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error


def parse_annotations(content: Any) -> Annotations:
    """Checks the content of a COCO file; see `read_annotations`."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"COCO's format needs a list {key!r}")
    categories = _categories(content["categories"])
    by_id: dict[Any, int] = {}
    sizes = np.zeros((len(content["images"]), 2), np.int32)
    for position, image in enumerate(content["images"]):
        sizes[position] = _size(image)
        if by_id.setdefault(image["id"], position) != position:
            raise UserError(f"two images have the id {image['id']!r}")
    annotations: list[list[Json]] = [[] for _ in by_id]
    for number, annotation in enumerate(content["annotations"]):
        name = f"annotation {annotation.get('id', f'number {number}')}"
        image_id = annotation.get("image_id")
        if image_id not in by_id:
            raise UserError(f"{name}: there is no image with its image_id={image_id!r}")
        position = by_id[image_id]
        if complaint := _complaint(annotation, categories, *map(int, sizes[position])):
            file = content["images"][position]["file_name"]
            raise UserError(f"{name} of image {file!r}: {complaint}")
        annotations[position].append(annotation)
    names = [image["file_name"] for image in content["images"]]
    return Annotations(names, sizes, categories, annotations)


def _categories(entries: list[Json]) -> dict[int, str]:
    for entry in entries:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str):
            raise UserError(f"category {entry!r} needs an int 'id' and a 'name'")
    names = {entry["id"]: entry["name"] for entry in entries}
    if len(names) != len(entries) or not names:
        raise UserError("categories need one id each, and there must be at least one")
    return dict(sorted(names.items()))


def _size(image: Json) -> tuple[int, int]:
    for key, kind in _IMAGE_FIELDS.items():
        if not isinstance(value := image.get(key), kind):
            wanted = " or ".join(k.__name__ for k in kind)
            name = image.get("file_name", image.get("id"))
            raise UserError(f"image {name!r}: {key}={value!r} must be of type {wanted}")
    if image["height"] < 1 or image["width"] < 1:
        raise UserError(
            f"image {image['file_name']!r} has {image['height']} x {image['width']} pixels"
        )
    return image["height"], image["width"]


def _complaint(annotation: Json, categories: dict[int, str], height: int, width: int) -> str | None:
    """What is wrong with an annotation; boxes without area or outside the image are legal."""
    category = annotation.get("category_id")
    if category not in categories:
        return f"category_id={category!r} is not among the categories ({_some(categories)})"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        return f"bbox={box!r} must be four numbers: x, y, width, height"
    if not _are_numbers([annotation.get("area", 0)]):
        return f"area={annotation['area']!r} must be a number"
    return _mask_complaint(annotation.get("segmentation"), height, width)


def _mask_complaint(segmentation: Any, height: int, width: int) -> str | None:
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not _are_numbers(polygon) or len(polygon) % 2:
                return f"segmentation: a polygon is x, y, x, y, ...; found {_short(polygon)}"
        if not any(len(polygon) >= _MIN_POLYGON for polygon in segmentation):
            return "segmentation has no polygon of three corners or more"
        return None
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        return (
            "segmentation must be polygons, or an RLE with 'size' and 'counts'; found "
            f"{_short(segmentation)}"
        )
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [height, width]:
        return f"segmentation has the size {size}, its image {[height, width]}"
    if isinstance(counts, list) and (not _are_numbers(counts) or sum(counts) != height * width):
        return f"segmentation: counts do not sum to {height} x {width}"
    return None


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


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


def _some(categories: dict[int, str]) -> str:
    ids = list(map(str, categories))
    return ", ".join(ids if len(ids) <= 10 else [*ids[:10], "..."])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
