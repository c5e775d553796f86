"""Plans of an epoch, and what they do to boxes and masks."""

import dataclasses

import numpy as np
import pytest

from dwconv_jax.data.detection.geometry import (
    Views,
    draw_views,
    evaluation_views,
    keep_ratio,
    largest_training_size,
    plan_epoch,
    plan_evaluation,
    smallest_canvas,
    transform_boxes,
    visible_pixels,
)


@dataclasses.dataclass
class Config:
    """As the authors' configs."""

    canvases: tuple = ((800, 1344), (1344, 800), (1344, 1344))
    scale: tuple = (1333, 800)
    train_shortest: tuple = tuple(range(480, 801, 32))
    crop_shortest: tuple = (400, 500, 600)
    crop_range: tuple = (384, 600)
    flip: bool = True


@pytest.fixture
def sizes(rng: np.random.Generator) -> np.ndarray:
    """COCO's: mostly 480 x 640, some upright, a few extreme."""
    common = np.array([[480, 640], [640, 480], [427, 640], [640, 640], [32, 600], [3000, 4000]])
    return common[rng.choice(6, 300, p=[0.5, 0.2, 0.2, 0.06, 0.02, 0.02])]


def test_keep_ratio() -> None:
    """As mmcv rescales: within both sides, rounded to the nearest."""
    sizes = np.array([[480, 640], [427, 640], [640, 200], [1, 5000]])
    expected = [[800, 1067], [800, 1199], [1333, 417], [1, 1333]]
    np.testing.assert_array_equal(keep_ratio(sizes, 1333, 800), expected)


def test_views(sizes: np.ndarray, rng: np.random.Generator) -> None:
    views = draw_views(sizes, Config(), rng)
    assert 0.4 < views.flip.mean() < 0.6
    cropped = (views.crop[:, 2:] != sizes).any(1)
    assert 0.4 < cropped.mean() < 0.6
    np.testing.assert_array_equal(views.first[~cropped], sizes[~cropped])
    assert set(views.first[cropped & (sizes == [480, 640]).all(1)].min(1)) == {400, 500, 600}
    assert (views.crop[:, :2] >= 0).all()
    assert (views.crop[:, :2] + views.crop[:, 2:] <= views.first).all()
    sides = views.crop[cropped][:, 2:]
    assert sides.max() <= 600 and (sides >= np.minimum(views.first[cropped], 384)).all()
    assert set(views.size[(sizes == [640, 640]).all(1) & ~cropped][:, 0]) <= set(
        range(480, 801, 32)
    )
    assert (views.size.max(1) <= 1333).all() and (views.size.min(1) <= 800).all()


def test_an_epoch(sizes: np.ndarray) -> None:
    config = Config()
    images, views, canvas = plan_epoch(sizes, config, 8, np.random.default_rng(1))
    assert len(images) == 300 // 8 * 8 == len(set(images))
    batches = canvas.reshape(-1, 8, 2)
    assert (batches == batches[:, :1]).all()  # one shape each
    assert (views.size <= canvas).all()
    assert {tuple(c) for c in canvas} == set(config.canvases)
    wide = (sizes[images, 1] > sizes[images, 0]).reshape(-1, 2)
    assert (wide[:, 0] != wide[:, 1]).sum() <= 1  # pairs are of one orientation
    # Batches stand in random order, and so do images.
    assert len(set(map(tuple, canvas[:80:8]))) > 1 and (np.diff(images) < 0).any()
    again = plan_epoch(sizes, config, 8, np.random.default_rng(1))
    np.testing.assert_array_equal(again[0], images)
    other = plan_epoch(sizes, config, 8, np.random.default_rng(2))
    assert (other[0] != images).any()


@pytest.mark.parametrize("count", [7, 8, 9, 10])
def test_every_place_is_filled(count: int) -> None:
    """Odd ones of both orientations form a pair, odd pairs of all canvases a batch."""
    sizes = np.array([[480, 640], [640, 480]])[np.arange(count) % 3 % 2]
    images, _, canvas = plan_epoch(sizes, Config(), 4, np.random.default_rng(0))
    assert len(images) == count // 4 * 4 == len(set(images)) == len(canvas)


def test_evaluation_shows_everything_once(sizes: np.ndarray) -> None:
    config = Config()
    views = evaluation_views(sizes, config)
    images, canvas, mask = plan_evaluation(views, config, 8)
    assert sorted(images[mask == 1]) == list(range(300))
    batches = canvas.reshape(-1, 8, 2)
    assert (batches == batches[:, :1]).all() and len(batches) < 300 // 8 + 4
    assert {tuple(c) for c in canvas} == {(800, 1344), (1344, 800)}


def test_canvases_that_are_too_small_are_named(sizes: np.ndarray) -> None:
    config = Config(canvases=((800, 1344), (1344, 800)))
    largest = largest_training_size(sizes, config)
    with pytest.raises(ValueError, match=r"dataset.canvases=.*: none holds images of 1333 x 1333"):
        smallest_canvas(largest, config.canvases)
    landscape = Config(canvases=((800, 1344),), crop_shortest=())
    assert smallest_canvas(
        largest_training_size(sizes[sizes[:, 1] > sizes[:, 0]], landscape), landscape.canvases
    ).tolist() == [[800, 1344]]


def one_view(flip: bool, first: list, crop: list, size: list) -> Views:
    return Views(np.bool_(flip), np.array(first), np.array(crop), np.array(size))


def test_boxes_of_a_view() -> None:
    """By hand: mirrored in 100, doubled, cropped at (20, 50) to 60 x 80, halved."""
    boxes = np.array([[10, 20, 40, 30], [-5, 0, 3, 60], [90, 20, 95, 30]], np.float32)
    view = one_view(True, [100, 200], [20, 50, 60, 80], [30, 40])
    actual, kept = transform_boxes(boxes, np.array([50, 100]), view)
    # Mirrored: [60, 20, 90, 30]; doubled: [120, 40, 180, 60]; cropped: [70, 20, 80, 40].
    np.testing.assert_array_equal(actual, [[35, 10, 40, 20]])
    assert kept.tolist() == [0]


def test_masks_follow_boxes(rng: np.random.Generator) -> None:
    """A filled box and its coordinates are seen at the same place, up to rounding."""
    size = (120, 200)
    views = draw_views(
        np.tile(size, (40, 1)),
        Config(
            scale=(256, 160), train_shortest=(96, 160), crop_shortest=(80, 120), crop_range=(60, 90)
        ),
        rng,
    )
    for i in range(40):
        x1, x2 = np.sort(rng.choice(200, 2, replace=False))
        y1, y2 = np.sort(rng.choice(120, 2, replace=False))
        mask = np.zeros(size, np.uint8)
        mask[y1:y2, x1:x2] = 1
        boxes, kept = transform_boxes(
            np.array([[x1, y1, x2, y2]], np.float32), np.array(size), views[i]
        )
        rows, cols = visible_pixels(size, views[i])
        seen = mask[rows][:, cols]
        assert seen.shape == tuple(views.size[i])
        if seen.any():
            ys, xs = np.nonzero(seen)
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert kept.tolist() == [0]
            # A pixel of the mask becomes up to 3.4, of which OpenCV shows whole ones.
            np.testing.assert_allclose(boxes[0], found, atol=4)


def test_pixels_of_a_plain_resize_are_opencvs() -> None:
    """floor(i * old / new): what INTER_NEAREST shows."""
    rows, cols = visible_pixels((3, 8), one_view(False, [3, 8], [0, 0, 3, 8], [7, 4]))
    assert rows.tolist() == [0, 0, 0, 1, 1, 2, 2] and cols.tolist() == [0, 2, 4, 6]
    _, mirrored = visible_pixels((3, 8), one_view(True, [3, 8], [0, 0, 3, 8], [7, 4]))
    assert mirrored.tolist() == [7, 5, 3, 1]
