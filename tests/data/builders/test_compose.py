"""Scenes: what is seen at a pixel, exactly."""

import numpy as np
import pytest

from dwconv_jax.data.builders import compose
from dwconv_jax.data.builders.compose import Item

SIZE = 40


@pytest.fixture
def photographs(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(0, 256, (60, 70, 3), np.uint8)]


@pytest.fixture
def items() -> list[Item]:
    """A disc, and a frame with a hole that what lies below is seen through."""
    rows, cols = np.indices((9, 9)) - 4
    disc = np.where(rows**2 + cols**2 <= 16, 255, 0).astype(np.uint8)
    frame = np.full((9, 9), 255, np.uint8)
    frame[3:6, 3:6] = 0
    return [Item(np.full_like(disc, 255), disc, 0), Item(np.full_like(frame, 255), frame, 3)]


def scenes(items: list[Item], photographs: list[np.ndarray], count: int) -> list[compose.Scene]:
    return [
        compose.compose(items, photographs, SIZE, np.random.default_rng(i)) for i in range(count)
    ]


def test_every_item_is_seen(items: list[Item], photographs: list[np.ndarray]) -> None:
    for scene in scenes(items, photographs, 50):
        assert scene.image.shape == (SIZE, SIZE, 3)
        assert set(np.unique(scene.instances)) - {0} == set(range(1, len(scene.labels) + 1))


def test_what_is_seen_is_painted(items: list[Item], photographs: list[np.ndarray]) -> None:
    """The last pixel-to-item assignment wins: an opaque item's inside has one colour."""
    for scene in scenes(items, photographs, 20):
        last = scene.instances == len(scene.labels)
        inside = scene.image[last].astype(int)
        spread = np.abs(inside - np.median(inside, axis=0)).max(1)
        assert (spread <= 2).mean() > 0.5  # the rest is the soft outline


def test_label_maps_and_boxes(items: list[Item], photographs: list[np.ndarray]) -> None:
    for scene in scenes(items, photographs, 20):
        labels = scene.label_map()
        for i, (label, box) in enumerate(zip(scene.labels, scene.boxes(), strict=True)):
            mask = scene.instances == i + 1
            assert (labels[mask] == label + 1).all()
            top, left, bottom, right = box
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert mask[top].any() and mask[bottom - 1].any()
            assert mask[:, left].any() and mask[:, right - 1].any()
        assert (labels[scene.instances == 0] == 0).all()


def test_items_stay_in_sight(
    items: list[Item], photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    areas: list[int] = []
    place = compose._place

    def recorded(*args: object) -> tuple[np.ndarray, np.ndarray, int]:
        result = place(*args)
        areas.append(result[2])
        return result

    monkeypatch.setattr(compose, "_place", recorded)
    for seed in range(20):
        areas.clear()
        scene = compose.compose(items, photographs, SIZE, np.random.default_rng(seed))
        visible = np.bincount(scene.instances.reshape(-1))[1:]
        assert len(areas) >= len(visible)
        assert visible.min() >= 0.75 * min(areas)


def test_the_seed_decides(items: list[Item], photographs: list[np.ndarray]) -> None:
    first, again = scenes(items, photographs, 1) + scenes(items, photographs, 1)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.instances, again.instances)
    (other,) = [compose.compose(items, photographs, SIZE, np.random.default_rng(1))]
    assert (first.image != other.image).any()
