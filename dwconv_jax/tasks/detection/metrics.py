"""COCO's average precision of boxes and masks over a whole evaluation split."""

import contextlib
import io
import json
from typing import NamedTuple

import flax
import jax
import numpy as np
from clu import metrics as clu_metrics
from jax.experimental import multihost_utils
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dwconv_jax.data.detection.masks import Json, encode_mask
from dwconv_jax.ops.detection.masks import paste_masks

_AREAS = ("", "_small", "_medium", "_large")
_DETECTION_KEYS = ("boxes", "scores", "classes", "masks")
_NAMED_THRESHOLDS = {"_50": 0, "_75": 5}  # positions in 0.50, 0.55, ..., 0.95


class Truth:
    """The annotations of an evaluation split, indexed by pycocotools."""

    def __init__(self, annotations: Json):
        """Takes a COCO dictionary; its `category_id`s are classes."""
        self._annotations = _index(annotations)

    def of_image(self, image_id: int) -> list[Json]:
        """Returns the annotations of one image, crowds included."""
        return self._annotations.imgToAnns.get(image_id, [])

    def count_objects(self, num_classes: int) -> list[int]:
        """Returns the number of objects of each class that an evaluation counts."""
        objects = self._annotations.dataset["annotations"]
        classes = [a["category_id"] for a in objects if not a["iscrowd"]]
        return np.bincount(classes, minlength=num_classes).tolist()

    def precision(self, results: list[Json]) -> "Precision":
        """Evaluates detections of all images in the form of `to_results`."""
        boxes = [{**r, "area": r["bbox"][2] * r["bbox"][3]} for r in results]
        masks = [{**r, "area": float(mask_utils.area(r["segmentation"]))} for r in results]
        return Precision(self._evaluate("bbox", boxes), self._evaluate("segm", masks))

    def _evaluate(self, kind: str, results: list[Json]) -> np.ndarray:
        numbered = [{**r, "id": i + 1, "iscrowd": 0} for i, r in enumerate(results)]
        found = _index({**self._annotations.dataset, "annotations": numbered})
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._annotations, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"][..., -1]


class Precision(NamedTuple):
    """Precision of boxes and masks, by IoU threshold, recall, class and area; -1 without objects.

    Attributes:
      box_ap: `[T, R, K, A]`.
      mask_ap: `[T, R, K, A]`.
    """

    box_ap: np.ndarray
    mask_ap: np.ndarray

    def average(self) -> dict[str, float]:
        """Average precision over classes.

        Returns:
          `box_ap` and `mask_ap` in 0..1 (means over IoU thresholds 0.50:0.05:0.95), and both with
          the suffixes `_50`, `_75`, `_small`, `_medium` and `_large`. Sizes without objects in the
          split are missing.
        """
        values: dict[str, float | None] = {}
        for name, precision in self._asdict().items():
            values |= {f"{name}{area}": _mean(precision[..., i]) for i, area in enumerate(_AREAS)}
            for suffix, place in _NAMED_THRESHOLDS.items():
                values[f"{name}{suffix}"] = _mean(precision[place, ..., 0])
        return {name: value for name, value in values.items() if value is not None}

    def of_class(self, k: int) -> dict[str, float | None]:
        """`box_ap`, `box_ap_50`, `mask_ap` and `mask_ap_50` of a class; None without objects."""
        values: dict[str, float | None] = {}
        for name, precision in self._asdict().items():
            values[name] = _mean(precision[:, :, k, 0])
            values[f"{name}_50"] = _mean(precision[0, :, k, 0])
        return values


@flax.struct.dataclass
class DetectionMetrics(clu_metrics.Metric):
    """Average precision; merging encodes masks at their original size as run lengths on the host.

    Attributes:
      outputs: detections of a batch and the fields of the batch that they need; None after merging.
      truth: of the split.
      results: this process's share of the images of merged batches.
    """

    outputs: dict[str, jax.Array] | None
    truth: Truth = flax.struct.field(pytree_node=False)
    results: tuple[Json, ...] = flax.struct.field(pytree_node=False, default=())

    @classmethod
    def from_model_output(
        cls,
        *,
        detections: dict[str, jax.Array],
        batch: dict[str, jax.Array],
        truth: Truth,
    ) -> "DetectionMetrics":
        """Returns the metric of one batch.

        Args:
          detections: `boxes[B, D, 4]`, x1, y1, x2, y2 in pixels of the original images;
            `scores[B, D]`; `classes[B, D]`, -1 for padding; `masks[B, D, M, M]`, probabilities
            inside the boxes.
          batch: its `image_id[B]`, `original_size[B, 2]` and `mask[B]`.
          truth: of the split.
        """
        outputs = {**detections, **{key: batch[key] for key in ("image_id", "original_size")}}
        return cls(outputs={**outputs, "counts": batch["mask"]}, truth=truth)

    def merge(self, other: "DetectionMetrics") -> "DetectionMetrics":
        """Returns the metric of both."""
        return self.replace(outputs=None, results=self._all_results() + other._all_results())

    def precision(self) -> Precision:
        """Returns the precision of all merged batches, the same on every process."""
        return self.truth.precision(_from_all_processes(list(self._all_results())))

    def compute(self) -> dict[str, float]:
        """Returns `Precision.average`."""
        return self.precision().average()

    def _all_results(self) -> tuple[Json, ...]:
        if self.outputs is None:
            return self.results
        outputs = {name: _to_host(array) for name, array in self.outputs.items()}
        share = range(jax.process_index(), len(outputs["image_id"]), jax.process_count())
        entries: list[Json] = []
        for row in share:
            if outputs["counts"][row]:
                detections = {key: outputs[key][row] for key in _DETECTION_KEYS}
                image_id, size = outputs["image_id"][row], outputs["original_size"][row]
                entries += to_results(detections, int(image_id), size)
        return (*self.results, *entries)


def to_results(detections: dict[str, np.ndarray], image_id: int, size: np.ndarray) -> list[Json]:
    """Converts the detections of one image to entries of a COCO result file.

    Args:
      detections: as in `DetectionMetrics.from_model_output`, of one image.
      image_id: of the entries.
      size: int `[2]`, height and width of the original image.
    """
    height, width = map(int, size)
    entries = []
    for i in range(int((detections["classes"] >= 0).sum())):
        x1, y1, x2, y2 = map(float, detections["boxes"][i])
        # One at a time, because a hundred masks of a huge image do not fit into memory; transposed,
        # because run lengths go down the columns.
        (mask,) = paste_masks(
            detections["masks"][i : i + 1].swapaxes(1, 2),
            detections["boxes"][i : i + 1, [1, 0, 3, 2]],
            (width, height),
        )
        entries.append(
            {
                "image_id": image_id,
                "category_id": int(detections["classes"][i]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(detections["scores"][i]),
                "segmentation": encode_mask(mask.T),
            }
        )
    return entries


def _index(annotations: Json) -> COCO:
    coco = COCO()
    coco.dataset = annotations
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _mean(precision: np.ndarray) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _to_host(array: jax.Array) -> np.ndarray:
    """Returns the whole array on every process."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _from_all_processes(entries: list[Json]) -> list[Json]:
    """Returns the entries of all processes on every process."""
    if jax.process_count() == 1:
        return entries
    text = np.frombuffer(json.dumps(entries).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(text)))
    padded = np.pad(text, (0, int(lengths.max()) - len(text)))
    rows = multihost_utils.process_allgather(padded)
    return [
        entry
        for row, length in zip(rows, lengths, strict=True)
        for entry in json.loads(row[:length].tobytes())
    ]
