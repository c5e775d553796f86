"""Files of annotations in COCO's format: what is read, and what is wrong with the others."""

import copy
import json
import pathlib

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from dwconv_jax.data.detection.coco import parse_annotations, read_annotations
from dwconv_jax.data.detection.masks import encode_mask

BLOB = np.zeros((40, 60), bool)
BLOB[5:9, 10:20] = True
CROWD_COUNTS = [0, 40 * 30, 40 * 30]  # the left half

CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 3, "file_name": "b.png", "height": 50, "width": 50},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {
            "id": 0,
            "image_id": 7,
            "category_id": 18,
            "bbox": [10, 20, 30, 10],
            "area": 300,
            "iscrowd": 0,
            "segmentation": [[10, 20, 40, 20, 40, 30, 10, 30]],
        },
        {
            "id": 1,
            "image_id": 7,
            "category_id": 2,
            "bbox": [10, 5, 10, 4],
            "segmentation": encode_mask(BLOB),
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 2,
            "bbox": [0, 0, 30, 40],
            "area": 1200,
            "iscrowd": 1,
            "segmentation": {"size": [40, 60], "counts": CROWD_COUNTS},
        },
    ],
}


def with_annotation(**fields: object) -> dict:
    content = copy.deepcopy(CONTENT)
    content["annotations"][0].update(fields)
    return content


def test_objects_of_an_image() -> None:
    annotations = parse_annotations(CONTENT)
    assert annotations.categories == {2: "cat", 18: "dog"}
    np.testing.assert_array_equal(annotations.sizes, [[40, 60], [50, 50]])
    objects = annotations.objects(0)
    np.testing.assert_array_equal(objects.boxes, [[10, 20, 40, 30], [10, 5, 20, 9]])
    assert objects.classes.tolist() == [1, 0]  # the crowd teaches nothing
    polygon = np.zeros((40, 60))
    polygon[20:30, 10:40] = 1
    np.testing.assert_array_equal(objects.mask(0), polygon)
    np.testing.assert_array_equal(objects.mask(1), BLOB)
    empty = annotations.objects(1)
    assert empty.boxes.shape == (0, 4) and empty.classes.shape == (0,)
    assert annotations.num_objects().tolist() == [2, 0]


@pytest.mark.parametrize(
    "fields",
    [
        dict(ignore=1),
        dict(iscrowd=1),
        dict(bbox=[70, 20, 30, 10]),  # outside of the image
        dict(bbox=[-30, 20, 30, 10]),
        dict(bbox=[10, 20, 30, 0.5]),
        dict(bbox=[10, 20, 0, 10]),
        dict(area=0),
    ],
)
def test_what_the_reference_leaves_out(fields: dict) -> None:
    assert parse_annotations(with_annotation(**fields)).objects(0).classes.tolist() == [0]


def test_what_is_evaluated() -> None:
    """Everything, crowds too; ids are positions, and no annotation has the id 0."""
    content = parse_annotations(CONTENT).to_evaluate()
    assert [image["id"] for image in content["images"]] == [0, 1]
    assert content["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    entries = content["annotations"]
    assert [entry["id"] for entry in entries] == [1, 2, 3]
    assert [entry["image_id"] for entry in entries] == [0, 0, 0]
    assert [entry["category_id"] for entry in entries] == [1, 0, 0]
    assert [entry["iscrowd"] for entry in entries] == [0, 0, 1]
    assert [entry["area"] for entry in entries] == [300, BLOB.sum(), 1200]
    crowd = mask_utils.decode(entries[2]["segmentation"])
    assert crowd[:, :30].all() and not crowd[:, 30:].any()


def test_corners_of_a_polygon_too_few_are_left_out() -> None:
    polygons = [*CONTENT["annotations"][0]["segmentation"], [1, 1, 2, 2]]
    objects = parse_annotations(with_annotation(segmentation=polygons)).objects(0)
    assert objects.mask(0).sum() == 300


ANNOTATION = "annotation 0 of image 'a.png': "


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(category_id=5), f"{ANNOTATION}category_id=5 is not among the categories .2, 18.$"),
        (dict(category_id=None), f"{ANNOTATION}category_id=None is not among"),
        (dict(image_id=8), "annotation 0: there is no image with its image_id=8"),
        (dict(bbox=[1, 2, 3]), f"{ANNOTATION}bbox=.1, 2, 3. must be four numbers"),
        (dict(bbox=[1, 2, 3, float("nan")]), f"{ANNOTATION}bbox=.* must be four numbers"),
        (dict(bbox=None), f"{ANNOTATION}bbox=None must be four numbers"),
        (dict(area="big"), f"{ANNOTATION}area='big' must be a number"),
        (dict(segmentation=[]), f"{ANNOTATION}segmentation has no polygon of three corners"),
        (dict(segmentation=[[]]), f"{ANNOTATION}segmentation has no polygon of three corners"),
        (dict(segmentation=[[1, 2, 3]]), f"{ANNOTATION}segmentation: a polygon is x, y, x, y"),
        (dict(segmentation=None), f"{ANNOTATION}segmentation must be polygons, or an RLE"),
        (dict(segmentation={"size": [40, 60]}), f"{ANNOTATION}segmentation must be polygons"),
        (
            dict(segmentation={"size": [60, 40], "counts": "a"}),
            rf"{ANNOTATION}segmentation has the size \[60, 40\], its image \[40, 60\]",
        ),
        (
            dict(segmentation={"size": [40, 60], "counts": [3, 4]}),
            f"{ANNOTATION}segmentation: counts do not sum to 40 x 60",
        ),
        (dict(image_id=[7]), "annotation 0: there is no image with its image_id=.7.$"),
        (dict(image_id=True), "annotation 0: there is no image with its image_id=True$"),
        (dict(category_id=[2]), f"{ANNOTATION}category_id=.2. is not among"),
        (dict(category_id={}), f"{ANNOTATION}category_id=.* is not among"),
        (dict(bbox=[1, 2, 3, 10**400]), f"{ANNOTATION}bbox=.* must be four numbers"),
        (dict(bbox=[1, 2, 1e300, 4]), f"{ANNOTATION}bbox=.* must be four numbers"),
        (dict(area=float("nan")), f"{ANNOTATION}area=nan must be a number"),
        (dict(iscrowd=None), f"{ANNOTATION}iscrowd=None must be 0 or 1"),
        (dict(iscrowd="0"), f"{ANNOTATION}iscrowd='0' must be 0 or 1"),
        (dict(ignore=[]), f"{ANNOTATION}ignore=.. must be 0 or 1"),
        (dict(segmentation=[[1, 1, 1e18, 1, 5, 5]]), f"{ANNOTATION}segmentation: corners must be"),
        (
            dict(segmentation={"size": [40, 60], "counts": "12"}),
            f"{ANNOTATION}segmentation: counts do not sum to 40 x 60",
        ),
        (dict(id=[1, 2], bbox=None), r"annotation \[1, 2\] of image 'a.png': bbox=None"),
    ],
)
def test_annotations_that_cannot_be_used_are_named(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_annotations(with_annotation(**fields))


@pytest.mark.parametrize(
    ("part", "entry", "message"),
    [
        ("images", {"id": 7}, "image 7: file_name=None must be of type str"),
        (
            "images",
            {"id": 1, "file_name": "c", "height": "1"},
            "image 'c': height='1' must be of t",
        ),
        (
            "images",
            {"id": 1, "file_name": "c", "height": 0, "width": 1},
            "image 'c' has 0 x 1 pixels",
        ),
        ("images", CONTENT["images"][0], "two images have the id 7"),
        ("categories", {"id": 2, "name": "cow"}, "categories need one id each"),
        ("categories", {"id": "2"}, "category .* needs an int 'id' and a 'name'"),
        ("images", 5, "image number 2 must be a JSON object, found 5"),
        ("annotations", None, "annotation number 3 must be a JSON object, found None"),
        ("categories", [], "category number 2 must be a JSON object"),
        ("images", {"id": [1], "file_name": "c"}, "image 'c': id=.1. must be of type int or str"),
        (
            "images",
            {"id": 1, "file_name": "c", "height": 2**40, "width": 1},
            "image 'c' has 1099511627776 x 1 pixels; legal are 1 to config.dataset.max_pixels=89",
        ),
    ],
)
def test_images_and_categories_are_checked(part: str, entry: dict, message: str) -> None:
    content = copy.deepcopy(CONTENT)
    content[part].append(entry)
    with pytest.raises(ValueError, match=message):
        parse_annotations(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.json: Expecting"),
        ("[]", "a.json: COCO's format needs a list 'images'"),
        ("[" * 100_000, "a.json: the JSON is nested too deeply"),
        ("\ufffe", "a.json: "),
        (json.dumps(with_annotation(bbox=[])), f"a.json: {ANNOTATION}bbox"),
    ],
)
def test_files_are_named(tmp_path: pathlib.Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_annotations(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    "file_name", ["/etc/passwd", "../a.png", "b/../../a.png", "..", "\x00", "\ud800.png"]
)
def test_file_names_stay_inside_their_folder(file_name: str) -> None:
    content = copy.deepcopy(CONTENT)
    content["images"][0]["file_name"] = file_name
    with pytest.raises(ValueError, match="file_name must be a path inside the folder of the ima"):
        parse_annotations(content)


def test_file_names_may_have_folders() -> None:
    content = copy.deepcopy(CONTENT)
    content["images"][0]["file_name"] = "b/../c/..a.png"
    assert parse_annotations(content).file_names[0] == "b/../c/..a.png"
