"""Masks in COCO's format: polygons, or run-length encodings (RLE), compressed or not.

pycocotools trusts its input: coordinates far outside the image overflow its integers, and runs that
do not cover the image make it read memory that was never written. `mask_complaint` finds both.
"""

from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as mask_utils

from dwconv_jax.data.settings import is_finite, is_int

Array = np.ndarray
Json = dict[str, Any]

_MIN_POLYGON = 6  # numbers: three corners
_MARGIN = 10  # how far outside corners may be, in units of the image's longer side
_MAX_OUTLINE = (
    10_000_000  # length of a polygon in pixels; pycocotools holds several points for each
)

# Compressed runs are written in base 32, least significant digit first, one printable character a
# digit. Each character also holds a bit that says whether more digits follow.
_FIRST_CHARACTER, _MORE, _DIGIT, _DIGIT_BITS = 48, 0x20, 0x1F, 5
_MAX_DIGITS = 6  # more overflow the 32 bits in which pycocotools shifts


def to_rle(segmentation: Any, height: int, width: int) -> Json:
    """Converts polygons (to their union) or an uncompressed RLE to a compressed RLE.

    Args:
      segmentation: without a `mask_complaint`.
      height: of the image.
      width: of the image.
    """
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


def mask_complaint(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with the field `segmentation` of an annotation; None if it is legal.

    Args:
      segmentation: any value that JSON can hold.
      height: of the image; height x width must be below 2**31.
      width: of the image.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if complaint := _polygon_complaint(polygon, height, width):
                return f"segmentation: {complaint}; found {short(polygon)}"
        if not any(len(polygon) >= _MIN_POLYGON for polygon in segmentation):
            return "segmentation has no polygon of three corners or more"
        return None
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        return (
            "segmentation must be polygons, or an RLE with 'size' and 'counts'; found "
            f"{short(segmentation)}"
        )
    size = segmentation["size"]
    if size != [height, width] or not all(map(is_int, size)):
        return f"segmentation has the size {short(size)}, its image {[height, width]}"
    return _runs_complaint(segmentation["counts"], height, width)


def _polygon_complaint(polygon: Any, height: int, width: int) -> str | None:
    if not are_numbers(polygon) or len(polygon) % 2:
        return "a polygon is x, y, x, y, ..."
    if not polygon:
        return None
    margin = _MARGIN * max(height, width)
    if min(polygon) < -margin or max(polygon) > max(height, width) + margin:
        return (
            f"corners must be within {_MARGIN} times the longer side of the image, "
            f"{height} x {width}"
        )
    extent = max(polygon) - min(polygon)
    if len(polygon) * extent <= _MAX_OUTLINE:  # which the outline cannot exceed
        return None
    corners = np.reshape(np.asarray(polygon, np.float64), (-1, 2))
    outline = np.abs(corners - np.roll(corners, 1, 0)).sum()
    if outline > _MAX_OUTLINE:
        return f"a polygon's outline may be {_MAX_OUTLINE} pixels long and is {outline:.0f}"
    return None


def _runs_complaint(counts: Any, height: int, width: int) -> str | None:
    if isinstance(counts, str):
        runs = _decode_runs(counts)
        if runs is None:
            return f"segmentation: counts are no compressed RLE: {short(counts)}"
    elif isinstance(counts, list) and all(is_int(count) and count < 2**31 for count in counts):
        runs = np.array(counts, np.int64)
    else:
        return (
            "segmentation: counts must be a string, or ints that sum to height x width; found "
            f"{short(counts)}"
        )
    if (runs < 0).any():
        return f"segmentation: counts must not be negative; one is {runs.min()}"
    if runs.sum() != height * width:
        return f"segmentation: counts do not sum to {height} x {width} but to {runs.sum()}"
    return None


def _decode_runs(counts: str) -> Array | None:
    """The lengths of the runs of a compressed RLE, int64 `[n]`; None if it is none."""
    if not counts.isascii():
        return None
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if codes.size == 0:
        return codes
    if codes.min() < 0 or codes.max() >= 2 * _MORE or codes[-1] & _MORE:
        return None
    last = np.flatnonzero(codes & _MORE == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > _MAX_DIGITS:
        return None
    places = np.arange(codes.size) - np.repeat(first, lengths)
    runs = np.add.reduceat((codes & _DIGIT) << (_DIGIT_BITS * places), first)
    is_negative = codes[last] & (_MORE >> 1) != 0
    runs -= np.where(is_negative, 1 << (_DIGIT_BITS * lengths), 0)
    # From the fourth on, runs are differences to the run before the previous one.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def are_numbers(values: Any) -> TypeGuard[list[float]]:
    """Whether a value is a list of finite numbers."""
    return isinstance(values, list) and all(map(is_finite, values))


def short(value: Any) -> str:
    """A value for errors, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
