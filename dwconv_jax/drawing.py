"""Pictures for people to look at: label maps, boxes, masks, names and scores drawn on images."""

import colorsys
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

_OPACITY = 0.5
# Smaller pictures are enlarged before names are written on them: text takes some ten pixels.
_LEGIBLE_SIDE = 384
_FONT_SHARE, _FONT_SIZES = 1 / 45, (11, 28)  # of the longest side, and its bounds in pixels
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_INK, _PAPER = (0, 0, 0), (255, 255, 255)


def make_palette(count: int) -> Array:
    """Returns colors for `count` classes, uint8 `[count, 3]`; the same on every call.

    Hues follow the golden ratio, so that neighbours differ and any number of classes spreads
    evenly; brightness and saturation alternate.
    """
    tones = ((0.85, 0.95), (0.6, 1.0), (1.0, 0.7))  # saturation, value
    colors = [colorsys.hsv_to_rgb(i * _GOLDEN_RATIO % 1, *tones[i % 3]) for i in range(count)]
    return np.round(np.array(colors).reshape(count, 3) * 255).astype(np.uint8)


def tile(pictures: Sequence[Array], columns: int = 8) -> Array:
    """Lays pictures out in rows, one pixel apart; enlarges small ones.

    Args:
      pictures: uint8 `[H, W, 3]`, all of the same size.
      columns: pictures in a row; the last row may be shorter.

    Returns:
      uint8 `[H', W', 3]`, black where there is no picture.
    """
    for picture in pictures:
        _check_image(picture)
    tiles = [np.pad(picture, [(0, 1), (0, 1), (0, 0)]) for picture in pictures]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    sheet = np.concatenate(rows)[:-1, :-1]
    return _enlarge(sheet, max(1, math.ceil(_LEGIBLE_SIDE / sheet.shape[1])))


def label_overlay(image: Array, labels: Array, palette: Array) -> Array:
    """Tints every pixel of a picture with the color of its class.

    Args:
      image: uint8 `[H, W, 3]`.
      labels: int `[H, W]`; a pixel whose label has no color (255: no class) stays as it is.
      palette: uint8 `[classes, 3]`.

    Returns:
      uint8 `[H, W, 3]`.
    """
    _check_image(image)
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"labels of shape {labels.shape} do not fit an image of shape {image.shape}"
        )
    known = (labels >= 0) & (labels < len(palette))
    tinted = _blend(image, palette[np.where(known, labels, 0)])
    return np.where(known[..., None], tinted, image)


def draw_objects(
    image: Array,
    boxes: Array,
    classes: Array,
    *,
    class_names: Sequence[str],
    palette: Array,
    scores: Array | None = None,
    masks: Sequence[Array] | Array | None = None,
) -> Array:
    """Draws boxes, masks, names and scores of objects; the first ones on top.

    Args:
      image: uint8 `[H, W, 3]`.
      boxes: `[N, 4]`, x1, y1, x2, y2 in pixels.
      classes: int `[N]`.
      class_names: written for each class.
      palette: uint8 `[classes, 3]`.
      scores: `[N]` in 0..1, written behind the names.
      masks: bool `[N, H, W]`.

    Returns:
      uint8 `[H', W', 3]`: the size of the image, or a multiple where it is too small for text.
    """
    _check_image(image)
    order = list(range(len(boxes)))[::-1]
    factor = max(1, math.ceil(_LEGIBLE_SIDE / max(image.shape[:2])))
    canvas = _enlarge(image, factor)
    if masks is not None:
        for i in order:
            canvas = _paint_mask(canvas, _repeat(masks[i], factor), palette[classes[i]])
    picture = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(picture), _font(canvas.shape)
    width = max(1, round(font.size / 7))
    for i in order:
        left, top, right, bottom = boxes[i] * factor
        # PIL draws the far corner; a box that is inverted or thinner than a pixel is a line.
        corners = (left, top, max(right - 1, left), max(bottom - 1, top))
        draw.rectangle(corners, outline=_rgb(palette[classes[i]]), width=width)
    taken: list[Rectangle] = []
    for i in reversed(order):  # after the outlines, which would cross the text
        text = class_names[classes[i]] + (f" {scores[i]:.2f}" if scores is not None else "")
        margin = font.size / 5
        size = (font.getlength(text) + 2 * margin, font.size + 2 * margin)
        place = _free_place(size, boxes[i] * factor, picture.size, taken)
        taken.append(place)
        _write_tag(draw, font, text, place, _rgb(palette[classes[i]]))
    return np.asarray(picture)


def add_legend(
    image: Array, classes: Iterable[int], class_names: Sequence[str], palette: Array
) -> Array:
    """Appends a column with the colors and names of the given classes.

    Args:
      image: uint8 `[H, W, 3]`, e.g. of `label_overlay`.
      classes: those to name, in this order.
      class_names: of every class.
      palette: uint8 `[classes, 3]`.

    Returns:
      uint8 `[H', W', 3]`; enlarged as in `draw_objects`.
    """
    _check_image(image)
    image = _enlarge(image, max(1, math.ceil(_LEGIBLE_SIDE / max(image.shape[:2]))))
    font = _font(image.shape)
    line, entries = round(font.size * 1.5), [(class_names[k], palette[k]) for k in classes]
    per_column = max(1, image.shape[0] // line)
    columns = [entries[i : i + per_column] for i in range(0, len(entries), per_column)]
    widths = [round(max(font.getlength(name) for name, _ in c)) + 2 * line for c in columns]
    picture = Image.new("RGB", (image.shape[1] + sum(widths), max(image.shape[0], line)), _PAPER)
    picture.paste(Image.fromarray(image))
    draw, left = ImageDraw.Draw(picture), image.shape[1]
    for column, width in zip(columns, widths, strict=True):
        for row, (name, color) in enumerate(column):
            x, y, swatch = left + line // 2, row * line, round(font.size)
            seen = _rgb(_blend(np.full(3, 255, np.uint8), color))
            draw.rectangle((x, y + line // 6, x + swatch, y + line // 6 + swatch), fill=seen)
            draw.text((x + line, y + line // 2), name, _INK, font, anchor="lm")
        left += width
    return np.asarray(picture)


def _check_image(image: Array) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")


def _rgb(color: Array) -> tuple[int, int, int]:
    red, green, blue = map(int, color)
    return red, green, blue


def _blend(image: Array, color: Array) -> Array:
    return np.round((1 - _OPACITY) * image + _OPACITY * color.astype(np.float32)).astype(np.uint8)


def _paint_mask(canvas: Array, mask: Array, color: Array) -> Array:
    """Tints a mask, and draws its outline opaque."""
    inside = mask.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inside &= np.roll(mask, step, axis)
    canvas = np.where(mask[..., None], _blend(canvas, color), canvas)
    return np.where((mask & ~inside)[..., None], color, canvas)


def _enlarge(image: Array, factor: int) -> Array:
    if factor == 1:
        return image
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _repeat(mask: Array, factor: int) -> Array:
    return mask.astype(bool).repeat(factor, 0).repeat(factor, 1)


def _font(shape: tuple[int, ...]) -> ImageFont.FreeTypeFont:
    smallest, largest = _FONT_SIZES
    font = ImageFont.load_default(min(max(max(shape[:2]) * _FONT_SHARE, smallest), largest))
    assert isinstance(font, ImageFont.FreeTypeFont)  # as for every explicit size
    return font


def _free_place(
    size: tuple[float, float],
    box: Array,
    canvas: tuple[int, int],
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Finds a place for a tag in the picture: above its box, within it, below it, or further down.

    If all of these overlap with tags that are there, returns the first one.
    """
    width, height = size
    rows = (box[1] - height, box[1], box[3] - height, box[3])
    further = np.arange(box[3] + height, canvas[1] - height, height)
    corners = [(left, top) for top in rows for left in (box[0], box[2] - width)]
    places = []
    for left, top in [*corners, *((box[0], top) for top in further)]:
        left = min(max(left, 0), max(canvas[0] - width, 0))
        top = min(max(top, 0), max(canvas[1] - height, 0))
        places.append((left, top, left + width, top + height))
    return next((p for p in places if not any(_overlap(p, q) for q in taken)), places[0])


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _write_tag(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    text: str,
    place: Rectangle,
    color: tuple[int, int, int],
) -> None:
    """Writes on a plate."""
    left, top, _, bottom = place
    draw.rectangle(place, fill=color)
    brightness = np.dot(color, (0.299, 0.587, 0.114))
    ink = _INK if brightness > 128 else _PAPER
    draw.text((left + font.size / 5, (top + bottom) / 2), text, ink, font, anchor="lm")
