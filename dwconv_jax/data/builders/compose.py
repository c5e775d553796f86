"""Composes scenes of real items on real photographs, with exact masks of their visible parts."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

Array = np.ndarray

_COUNT = (2, 5)  # items of a scene: from, and below
_SIDE = (0.38, 0.55)  # of an item, as a share of the scene's
_ANGLE = 15.0  # degrees in either direction, so that a 6 does not become a 9
_ATTEMPTS = 10
_MIN_VISIBLE = 0.8  # share of every item's mask
_OPAQUE = 0.5  # the opacity at which a pixel belongs to the item
_SHARPNESS = 4.0  # of outlines, which resizing softens
_GROUND = 0.5  # brightness of the photograph, so that items are lighter
_TINT = (155, 255)  # of an item, per color channel


@dataclasses.dataclass(frozen=True)
class Item:
    """An item of a scene: its gray levels and its opacity, both uint8 `[h, w]`."""

    shade: Array
    opacity: Array
    label: int


class Scene(NamedTuple):
    """A composed picture.

    Attributes:
      image: uint8 `[size, size, 3]`.
      instances: uint8 `[size, size]`, what is visible at a pixel: 0 for the photograph, `i + 1` for
        the i-th item.
      labels: labels of the items, in the order in which they were placed.
    """

    image: Array
    instances: Array
    labels: list[int]

    def label_map(self) -> Array:
        """Classes, uint8 `[size, size]`: 0 for the photograph, `label + 1` for items."""
        return np.array([0, *(label + 1 for label in self.labels)], np.uint8)[self.instances]

    def boxes(self) -> Array:
        """Tight boxes around the visible part of each item, int `[n, 4]`.

        Top, left, bottom and right, of which the last two are exclusive.
        """
        boxes = np.zeros((len(self.labels), 4), np.int64)
        for i in range(len(self.labels)):
            rows, cols = np.nonzero(self.instances == i + 1)
            boxes[i] = rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
        return boxes


def compose(
    items: Sequence[Item], photographs: Sequence[Array], size: int, rng: np.random.Generator
) -> Scene:
    """Places random items on a random crop of a photograph; later items cover earlier ones.

    Photographs are darkened. Items have random light tints, sizes, rotations and places, which may
    be partly outside the scene. An item that would hide too much of another is placed elsewhere, or
    left out.

    Args:
      items: to draw from.
      photographs: to draw from, uint8 `[h, w, 3]`.
      size: height and width of the scene.
      rng: decides everything.
    """
    photograph = photographs[int(rng.integers(len(photographs)))]
    canvas = _GROUND * _crop(photograph, size, rng).astype(np.float32)
    instances = np.zeros((size, size), np.uint8)
    areas: list[int] = []
    labels: list[int] = []
    for _ in range(rng.integers(*_COUNT)):
        item = items[int(rng.integers(len(items)))]
        for _ in range(_ATTEMPTS):
            shade, opacity, area = _place(item, size, rng)
            covered = np.where(opacity >= _OPAQUE, len(areas) + 1, instances).astype(np.uint8)
            visible = np.bincount(covered.reshape(-1), minlength=len(areas) + 2)[1:]
            if (visible >= _MIN_VISIBLE * np.array([*areas, area])).all():
                canvas = _paint(canvas, shade, opacity, rng)
                instances = covered
                areas.append(area)
                labels.append(item.label)
                break
    return Scene(np.round(canvas).clip(0, 255).astype(np.uint8), instances, labels)


def _crop(photograph: Array, size: int, rng: np.random.Generator) -> Array:
    """A random square of a photograph, flipped or not, shrunk to `[size, size, 3]`."""
    height, width = photograph.shape[:2]
    side = int(rng.integers(size, min(height, width) + 1))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = photograph[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))


def _place(item: Item, size: int, rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Draws the size, angle and place of an item.

    Returns:
      Shade and opacity, float32 `[size, size]` in 0..1, and the number of pixels of its mask,
      including those outside the scene.
    """
    side = int(size * rng.uniform(*_SIDE))
    angle = rng.uniform(-_ANGLE, _ANGLE)
    shade, opacity = (
        np.asarray(
            Image.fromarray(layer)
            .resize((side, side), Image.Resampling.BICUBIC)
            .rotate(angle, Image.Resampling.BICUBIC, expand=True),
            np.float32,
        )
        / 255
        for layer in (item.shade, item.opacity)
    )
    opacity = np.clip((opacity - _OPAQUE) * _SHARPNESS + _OPAQUE, 0, 1)
    top, left = rng.integers(-side // 4, size - len(shade) + side // 4 + 1, 2)
    area = int((opacity >= _OPAQUE).sum())
    shade, opacity = (_onto_canvas(layer, top, left, size) for layer in (shade, opacity))
    return shade, opacity, area


def _onto_canvas(layer: Array, top: int, left: int, size: int) -> Array:
    """Zeros `[size, size]` with the part of a layer that is inside."""
    canvas = np.zeros((size, size), np.float32)
    height, width = layer.shape
    rows = slice(max(top, 0), min(top + height, size))
    cols = slice(max(left, 0), min(left + width, size))
    canvas[rows, cols] = layer[
        rows.start - top : rows.stop - top, cols.start - left : cols.stop - left
    ]
    return canvas


def _paint(canvas: Array, shade: Array, opacity: Array, rng: np.random.Generator) -> Array:
    """Blends a tinted item over the canvas."""
    tint = rng.uniform(*_TINT, 3).astype(np.float32)
    opacity = opacity[..., None]
    return (1 - opacity) * canvas + opacity * shade[..., None] * tint
