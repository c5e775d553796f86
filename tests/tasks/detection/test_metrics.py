"""COCO's average precision: by hand, over batches, devices and processes."""

import json
import socket
import subprocess
import sys
import tracemalloc

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax.data.detection.coco import parse_annotations
from dwconv_jax.data.detection.masks import encode_mask
from dwconv_jax.tasks.detection.metrics import DetectionMetrics, Truth, to_results
from dwconv_jax.tasks.detection.task import Detection

SIZE = (120, 160)
CLASSES = (0, 1, 1)
# Of three images: x1, y1, x2, y2; the last is small.
BOXES = [
    [[10, 10, 50, 50], [60, 20, 140, 100], [20, 70, 40, 100]],
    [[30, 40, 80, 110], [90, 10, 150, 60], [100, 70, 120, 100]],
    [[5, 5, 65, 45], [70, 30, 130, 110], [20, 60, 44, 110]],
]


def coco(boxes=BOXES, crowds=()):
    """Annotations of rectangles; `crowds` are (image, class, box)."""
    entries = [
        (i, k, box, 0) for i, row in enumerate(boxes) for k, box in zip(CLASSES, row, strict=True)
    ]
    entries += [(*crowd, 1) for crowd in crowds]
    annotations = []
    for image, category, (x1, y1, x2, y2), crowd in entries:
        mask = np.zeros(SIZE, bool)
        mask[y1:y2, x1:x2] = True
        annotations.append(
            {
                "id": len(annotations),
                "image_id": image,
                "category_id": category,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": encode_mask(mask),
                "iscrowd": crowd,
            }
        )
    images = [{"id": i, "file_name": str(i), "height": SIZE[0], "width": SIZE[1]} for i in range(3)]
    categories = [{"id": k, "name": str(k)} for k in range(2)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return Truth(parse_annotations(content).to_evaluate())


def outputs(boxes=BOXES, classes=CLASSES, scores=(0.9, 0.8, 0.7), room=5):
    """Detections as a model gives them, with full masks, and the batch that goes with them."""
    count, n = len(boxes), len(classes)
    detections = {
        "boxes": np.zeros((count, room, 4), np.float32),
        "scores": np.zeros((count, room), np.float32),
        "classes": np.full((count, room), -1, np.int32),
        "masks": np.ones((count, room, 28, 28), np.float32),
    }
    detections["boxes"][:, :n] = boxes
    detections["scores"][:, :n] = scores
    detections["classes"][:, :n] = classes
    batch = {
        "image_id": np.arange(count, dtype=np.int32),
        "original_size": np.tile(np.int32(SIZE), (count, 1)),
        "mask": np.ones(count, np.float32),
    }
    return detections, batch


def metrics(detections, batch, truth):
    return DetectionMetrics.from_model_output(detections=detections, batch=batch, truth=truth)


def test_perfect_detections():
    values = metrics(*outputs(), coco()).compute()
    assert set(values) >= {"box_ap", "mask_ap", "box_ap_50", "mask_ap_75", "box_ap_small"}
    assert "box_ap_large" not in values  # there is none
    assert values == pytest.approx(dict.fromkeys(values, 1))


def test_shifted_boxes():
    """Class 0, 50 x 40 (and so on) shifted by a tenth of its width: IoU 0.9 / 1.1 = 0.818.

    That is right for the thresholds 0.50 to 0.80, 7 of 10; class 1 is perfect.
    """
    boxes = np.array(BOXES, np.float32)
    boxes[:, 0, [0, 2]] += 0.1 * (boxes[:, 0, 2] - boxes[:, 0, 0])[:, None]
    values = metrics(*outputs(boxes), coco()).compute()
    assert values["box_ap"] == pytest.approx((0.7 + 1) / 2)
    assert values["box_ap_50"] == pytest.approx(1) == values["box_ap_75"]


def test_each_class_has_its_precision():
    boxes = np.array(BOXES, np.float32)
    boxes[:, 0, [0, 2]] += 0.1 * (boxes[:, 0, 2] - boxes[:, 0, 0])[:, None]
    crowd = (0, 0, [100, 0, 160, 60])
    task = object.__new__(Detection)
    task.class_names, task.num_classes, task._truth = ("a", "b"), 2, coco(crowds=[crowd])
    summary = task.summarize(metrics(*outputs(boxes), task._truth))
    assert summary.metrics["box_ap"] == pytest.approx((0.7 + 1) / 2)
    first, second = summary.classes
    assert (first["name"], first["objects"], second["objects"]) == ("a", 3, 6)
    assert first["box_ap"] == pytest.approx(0.7) and first["box_ap_50"] == pytest.approx(1)
    assert second["box_ap"] == second["mask_ap"] == pytest.approx(1)


def test_half_masks():
    """Masks of 15 rows of 28, boxes untouched: IoU 0.52 to 0.55, right for one threshold of ten."""
    detections, batch = outputs()
    detections["masks"][:, :, 15:] = 0
    values = metrics(detections, batch, coco()).compute()
    assert values["box_ap"] == pytest.approx(1)
    assert values["mask_ap"] == pytest.approx(0.1) and values["mask_ap_50"] == pytest.approx(1)


def test_wrong_and_missing_detections():
    """Class 0: the best of three is wrong, two right: precision 1/2, 2/3, 2/3 at the recalls.

    Interpolated, precision is 2/3 up to recall 2/3, which are 67 of COCO's 101 points, then 0.
    """
    boxes = np.array(BOXES, np.float32)
    boxes[0, 0] = [100, 100, 120, 115]
    detections, batch = outputs(boxes)
    detections["scores"][0, 0] = 0.95
    values = metrics(detections, batch, coco()).compute()
    assert values["box_ap"] == pytest.approx((67 / 101 * 2 / 3 + 1) / 2)


def test_crowds_are_neither_right_nor_wrong():
    crowd = (0, 0, [100, 0, 160, 60])
    boxes = np.array(BOXES, np.float32)[:, [0, 1, 2, 0]]
    boxes[:, 3] = [100, 0, 130, 30]  # inside the crowd in image 0, wrong elsewhere
    detections, batch = outputs(boxes, (*CLASSES, 0), (0.9, 0.8, 0.7, 0.95))
    detections["classes"][1:, 3] = -1
    assert metrics(detections, batch, coco(crowds=[crowd])).compute()["box_ap"] == pytest.approx(1)
    assert metrics(detections, batch, coco()).compute()["box_ap"] < 0.9


def test_nothing_detected():
    detections, batch = outputs()
    detections["classes"][:] = -1
    assert set(metrics(detections, batch, coco()).compute().values()) == {0}


def split(detections, batch, rows):
    return [{k: v[rows] for k, v in part.items()} for part in (detections, batch)]


@pytest.fixture
def imperfect(rng):
    boxes = np.array(BOXES, np.float32) + rng.uniform(-4, 4, (3, 3, 4)).astype(np.float32)
    detections, batch = outputs(boxes, scores=(0.9, 0.6, 0.5))
    detections["masks"][:] = rng.random((3, 5, 28, 28)) ** 0.3
    return detections, batch


def test_over_batches(imperfect):
    truth = coco()
    expected = metrics(*imperfect, truth).compute()
    assert 0.1 < expected["mask_ap"] < expected["box_ap"] < 1
    first, second = (metrics(*split(*imperfect, rows), truth) for rows in ([0, 1], [2]))
    assert first.merge(second).compute() == expected
    # Filling, with detections that would be wrong.
    detections, batch = split(*imperfect, [2, 0, 1])
    padded = metrics(detections, {**batch, "mask": np.float32([1, 0, 0])}, truth)
    assert first.merge(padded).compute() == expected


def test_over_devices(imperfect):
    """Under jit, sharded by image, with filling."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    detections, batch = split(*imperfect, [0, 1, 2, 0, 0, 0, 0, 0])
    batch["mask"][3:] = 0
    truth = coco()
    arguments = jax.device_put((detections, batch), NamedSharding(mesh, PartitionSpec("data")))
    total = jax.jit(lambda detections, batch: metrics(detections, batch, truth))(*arguments)
    assert total.compute() == metrics(*imperfect, truth).compute()


def test_results_are_coco_entries():
    detections, _ = outputs()
    row = {k: v[1] for k, v in detections.items()}
    entries = to_results(row, 17, np.array(SIZE))
    assert [e["category_id"] for e in entries] == list(CLASSES)
    assert {e["image_id"] for e in entries} == {17}
    assert entries[0]["bbox"] == [30, 40, 50, 70]
    assert json.loads(json.dumps(entries)) == entries


def test_masks_of_a_huge_picture_are_not_held_together():
    size, count = (3000, 4000), 12
    row = {
        "boxes": np.tile(np.float32([100, 200, 3900, 2900]), (count, 1)),
        "scores": np.ones(count, np.float32),
        "classes": np.zeros(count, np.int32),
        "masks": np.ones((count, 28, 28), np.float32),
    }
    tracemalloc.start()
    entries = to_results(row, 0, np.array(size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == count and entries[0]["segmentation"]["size"] == list(size)
    float_masks = 4 * 3800 * 2700  # of one
    assert peak < 3 * float_masks < count * size[0] * size[1]


_PROCESS = """
import sys, json, jax, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tests.tasks.detection.test_metrics import coco, metrics, outputs, split
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
detections, batch = split(*outputs(scores=(0.9, 0.6, 0.5)), [0, 1, 2, 0])
detections["boxes"][..., 2] += 4
batch["mask"][3:] = 0
own = slice(2 * jax.process_index(), 2 * jax.process_index() + 2)
sharding = NamedSharding(mesh, PartitionSpec("data"))
arguments = jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x[own]), (detections, batch)
)
truth = coco()
total = jax.jit(lambda detections, batch: metrics(detections, batch, truth))(*arguments)
print(json.dumps(total.merge(total.replace(outputs=None)).compute()))
"""


def test_over_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, address, str(i)], stdout=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    found = [
        json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in processes
    ]
    detections, batch = outputs(scores=(0.9, 0.6, 0.5))
    detections["boxes"][..., 2] += 4
    expected = metrics(detections, batch, coco()).compute()
    assert found == [expected, expected] and 0 < expected["box_ap"] < 1
