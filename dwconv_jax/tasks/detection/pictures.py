"""Draws detections, and writes them as a file in COCO's format."""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath
from pycocotools import mask as mask_utils

from dwconv_jax.data.detection.masks import Json
from dwconv_jax.drawing import draw_objects, make_palette
from dwconv_jax.files import write_atomically
from dwconv_jax.tasks.detection.metrics import to_results
from dwconv_jax.tasks.pictures import read_upright, write_overlay
from dwconv_jax.tasks.task import Prediction

# Detections with lower scores are written but not drawn.
_MIN_DRAWN_SCORE = 0.3


def draw_annotations(
    image: np.ndarray, annotations: Sequence[Json], class_names: Sequence[str]
) -> np.ndarray:
    """Draws entries of a COCO annotation file, or of a result file, whose entries have scores.

    Args:
      image: uint8 `[H, W, 3]`.
      annotations: with classes as `category_id` and masks as compressed run lengths.
      class_names: of every class.

    Returns:
      uint8 `[H', W', 3]`; see `draw_objects`.
    """
    drawn = [a for a in annotations if a.get("score", 1) >= _MIN_DRAWN_SCORE]
    boxes = np.array([a["bbox"] for a in drawn], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return draw_objects(
        image,
        boxes,
        np.array([a["category_id"] for a in drawn], np.int32),
        class_names=class_names,
        palette=make_palette(len(class_names)),
        scores=np.array([a["score"] for a in drawn]) if drawn and "score" in drawn[0] else None,
        masks=[mask_utils.decode(a["segmentation"]).astype(bool) for a in drawn],
    )


def write_detections(
    predictions: Iterable[Prediction], out: epath.Path, categories: Mapping[int, str]
) -> None:
    """Writes `NAME_overlay.png` for each picture, and one `detections.json` in COCO's format.

    Args:
      predictions: whose outputs are detections of one image; see `to_results`.
      out: an existing folder.
      categories: names of the classes, in their order, by the ids to write.
    """
    ids, names = list(categories), list(categories.values())
    images: list[Json] = []
    annotations: list[Json] = []
    for name, output_name, path, batch, output in predictions:
        size = batch["original_size"][0]
        found = to_results(output, len(images) + 1, size)
        overlay = draw_annotations(read_upright(path), found, names)
        write_overlay(out, output_name, overlay)
        height, width = map(int, size)
        images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
        annotations += [
            {
                **entry,
                "id": len(annotations) + i,
                "category_id": ids[entry["category_id"]],
                "area": float(mask_utils.area(entry["segmentation"])),
                "iscrowd": 0,
            }
            for i, entry in enumerate(found, start=1)
        ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in categories.items()],
    }
    write_atomically(out / "detections.json", json.dumps(content))
