"""Pictures with labels, boxes and masks drawn on them."""

import numpy as np
import pytest

from dwconv_jax import drawing

NAMES = ("person", "traffic light", "dog")
PALETTE = drawing.make_palette(3)
GREY = np.full((400, 300, 3), 100, np.uint8)


def draw(boxes, classes, image=GREY, **kwargs):
    return drawing.draw_objects(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int32),
        class_names=NAMES,
        palette=PALETTE,
        **kwargs,
    )


def test_palette_is_fixed_and_without_repetition():
    palette = drawing.make_palette(150)
    assert (palette.shape, palette.dtype) == ((150, 3), np.uint8)
    assert len(np.unique(palette, axis=0)) == 150
    np.testing.assert_array_equal(palette[:20], drawing.make_palette(20))


def test_label_overlay_tints_what_has_a_class():
    labels = np.zeros((400, 300), np.uint8)
    labels[:10], labels[10:20] = 255, 2
    overlay = drawing.label_overlay(GREY, labels, PALETTE)
    assert (overlay[:10] == 100).all()
    for rows, k in ((slice(10, 20), 2), (slice(20, None), 0)):
        expected = np.round(50 + PALETTE[k] / 2.0)
        np.testing.assert_array_equal(overlay[rows], np.broadcast_to(expected, overlay[rows].shape))


def test_boxes_are_drawn_where_they_are():
    picture = draw([[50, 60, 150, 200]], [1])
    assert picture.shape == GREY.shape
    for pixel in ((60, 140), (199, 50), (199, 149), (120, 50), (120, 149)):
        np.testing.assert_array_equal(picture[pixel], PALETTE[1])
    assert (picture[70:190, 60:140] == 100).all()  # inside
    assert (picture[201:] == 100).all() and (picture[:, :49] == 100).all()


def test_first_object_is_on_top():
    mask = np.zeros((2, 400, 300), bool)
    mask[:, 100:200, 100:200] = True
    boxes = [[100, 100, 200, 200]] * 2
    picture = draw(boxes, [0, 2], masks=mask, scores=np.array([0.9, 0.8]))
    np.testing.assert_array_equal(picture[150, 100], PALETTE[0])
    under = np.round((100 + PALETTE[2].astype(float)) / 2)
    np.testing.assert_allclose(picture[150, 150], (under + PALETTE[0]) / 2, atol=1)


def test_scores_change_the_text():
    boxes = [[50, 60, 150, 200]]
    pictures = [draw(boxes, [0], scores=np.array([score])) for score in (0.5, 0.9)]
    changed = np.nonzero((pictures[0] != pictures[1]).any(-1))
    assert len(changed[0]) and changed[0].max() < 61  # above the box


def test_a_tag_finds_the_next_free_place():
    box, size, canvas = np.array([50.0, 60.0, 150.0, 200.0]), (40, 10), (300, 400)
    taken = []
    for _ in range(20):
        place = drawing._free_place(size, box, canvas, taken)
        assert not any(drawing._overlap(place, other) for other in taken)
        taken.append(place)
    assert taken[0] == (50, 50, 90, 60) and taken[1] == (110, 50, 150, 60)


@pytest.mark.parametrize(
    "box",
    [[0, 0, 5, 5], [295, 395, 300, 400], [-50, -50, 400, 500], [80, 90, 80, 90], [90, 90, 10, 20]],
)
def test_boxes_at_borders_and_degenerate_ones(box):
    picture = draw([box], [1], scores=np.array([1.0]))
    assert picture.shape == GREY.shape
    plate = (picture == PALETTE[1]).all(-1).sum()
    assert plate > 400  # the name can be seen


def test_small_pictures_are_enlarged():
    mask = np.zeros((1, 60, 96), bool)
    mask[0, 10:20, 30:50] = True
    picture = draw([[30, 10, 50, 20]], [0], GREY[:60, :96], masks=mask)
    assert picture.shape == (240, 384, 3)
    tinted = (picture != 100).any(-1)
    assert tinted[42:78, 122:198].all() and not tinted[82:].any()


def test_nothing_to_draw():
    np.testing.assert_array_equal(draw([], []), GREY)


def test_legend_names_the_classes():
    picture = drawing.add_legend(GREY, [2, 0], NAMES, PALETTE)
    np.testing.assert_array_equal(picture[:400, :300], GREY)
    column = picture[:, 300:]
    for k in (0, 2):
        assert (column == np.round(127.5 + PALETTE[k] / 2.0)).all(-1).any()
    many = drawing.add_legend(GREY[:100], range(3), NAMES, PALETTE)
    assert many.shape[1] > picture.shape[1]


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (GREY / 255, np.zeros((400, 300), int), r"image must be uint8 \[H, W, 3\], got float64"),
        (GREY, np.zeros((300, 400), int), r"labels of shape \(300, 400\) do not fit"),
    ],
)
def test_mistakes_are_named(image, labels, message):
    with pytest.raises(ValueError, match=message):
        drawing.label_overlay(image, labels, PALETTE)


def test_tile_lays_pictures_out_in_rows():
    pictures = [np.full((50, 100, 3), level, np.uint8) for level in (50, 100, 150, 200, 250)]
    sheet = drawing.tile(pictures, columns=4)
    assert sheet.shape == (2 * 50 + 1, 4 * 100 + 3, 3)
    np.testing.assert_array_equal(sheet[:50, 303:], 200)
    np.testing.assert_array_equal(sheet[51:, :100], 250)
    assert not sheet[50].any() and not sheet[51:, 100:].any()


def test_tile_enlarges_small_pictures():
    sheet = drawing.tile([np.zeros((8, 8, 3), np.uint8)] * 8)
    assert sheet.shape == (8 * 6, 71 * 6, 3)


def test_tile_refuses_what_is_no_picture():
    with pytest.raises(ValueError, match=r"image must be uint8 .*, got float64 \[8, 8, 3\]"):
        drawing.tile([np.zeros((8, 8, 3))])
