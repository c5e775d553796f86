"""Detections drawn, and written in COCO's format."""

import json

import numpy as np
import pytest
from etils import epath
from PIL import Image
from pycocotools import mask as mask_utils

from dwconv_jax.data.detection.coco import parse_annotations
from dwconv_jax.data.detection.masks import encode_mask
from dwconv_jax.drawing import make_palette
from dwconv_jax.tasks.detection.pictures import draw_annotations, write_detections
from dwconv_jax.tasks.task import Prediction

CATEGORIES = {3: "cat", 18: "dog"}
NAMES = tuple(CATEGORIES.values())


@pytest.fixture
def prediction(tmp_path):
    """A picture of 400 x 500 in which a dog is certain and a cat is not."""
    path = epath.Path(tmp_path) / "pets.jpg"
    Image.new("RGB", (500, 400), (90, 90, 90)).save(path)
    output = {
        "boxes": np.float32([[100, 200, 300, 350], [10, 60, 60, 120], [0, 0, 0, 0]]),
        "scores": np.float32([0.9, 0.1, 0]),
        "classes": np.int32([1, 0, -1]),
        "masks": np.ones((3, 28, 28), np.float32),
    }
    return Prediction(path.name, path.stem, path, {"original_size": np.int32([[400, 500]])}, output)


def test_what_is_written(prediction, tmp_path):
    out = epath.Path(tmp_path) / "out"
    out.mkdir()
    write_detections([prediction, prediction], out, CATEGORIES)
    content = json.loads((out / "detections.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2]
    assert content["categories"] == [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}]
    entries = content["annotations"]
    assert [e["id"] for e in entries] == [1, 2, 3, 4]
    assert [e["image_id"] for e in entries] == [1, 1, 2, 2]
    assert [e["category_id"] for e in entries] == [18, 3, 18, 3]
    assert entries[0]["bbox"] == [100, 200, 200, 150]
    mask = mask_utils.decode(entries[0]["segmentation"])
    assert mask[205:345, 105:295].all() and mask.sum() == entries[0]["area"] <= 200 * 150
    # It is what COCO's format is read as, too.
    objects = parse_annotations(content).objects(0)
    np.testing.assert_array_equal(objects.boxes, prediction.output["boxes"][:2])
    overlay = np.asarray(Image.open(out / "pets_overlay.png"))
    dog = make_palette(2)[1]
    np.testing.assert_array_equal(overlay[349, 200], dog)
    np.testing.assert_array_equal(overlay[250, 200], np.round(45 + dog / 2.0))
    assert (overlay[:170] == 90).all()  # the cat is not certain enough


def test_annotations_have_no_scores():
    image = np.full((400, 500, 3), 90, np.uint8)
    mask = np.zeros((400, 500), bool)
    mask[60:120, 10:60] = True
    entry = {"bbox": [10, 60, 50, 60], "category_id": 0, "segmentation": encode_mask(mask)}
    plain = draw_annotations(image, [entry], NAMES)
    np.testing.assert_array_equal(plain[119, 30], make_palette(2)[0])
    scored = draw_annotations(image, [{**entry, "score": 0.5}], NAMES)
    assert (plain != scored).any()
    np.testing.assert_array_equal(draw_annotations(image, [], NAMES), image)
