"""Pictures of clouds beside what the prompt paints of them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MOST_VIEWS = 4
_SIDE, _MARGIN, _LINE = 224, 8, 24
_PAPER, _INK = 255, (0, 0, 0)
# Shades of the nearest and the farthest point.
_NEAR, _FAR = np.array([20, 40, 110]), np.array([190, 215, 240])


def draw_views(
    points: np.ndarray, rotations: np.ndarray, pictures: np.ndarray, caption: str
) -> np.ndarray:
    """Draws a cloud from a few places, and below each drawing the picture painted from there.

    Args:
      points: `[N, 3]`, the third axis up.
      rotations: `[V, 3, 3]`, which turn the cloud to the viewer.
      pictures: uint8 `[V, S, S, 3]`, whose first axis is that of the cloud's first coordinate.
      caption: written above.

    Returns:
      uint8 `[H, W, 3]`, with up to four of the views.
    """
    shown = np.unique(np.linspace(0, len(rotations), _MOST_VIEWS, endpoint=False).astype(int))
    step = _SIDE + _MARGIN
    size = (step * len(shown) - _MARGIN, _LINE + 2 * step - _MARGIN)
    sheet = Image.new("RGB", size, (_PAPER, _PAPER, _PAPER))
    font = ImageFont.load_default(_LINE * 2 // 3)
    ImageDraw.Draw(sheet).text((2, _LINE / 2), caption, _INK, font, anchor="lm")
    for column, view in enumerate(shown):
        drawn = Image.fromarray(draw_cloud(points @ rotations[view].T, _SIDE))
        painted = Image.fromarray(pictures[view]).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
        sheet.paste(drawn, (column * step, _LINE))
        sheet.paste(painted, (column * step, _LINE + step))
    return np.asarray(sheet)


def draw_cloud(seen: np.ndarray, side: int = 112) -> np.ndarray:
    """Draws points, dark where they are near, as the prompt projects them.

    Args:
      seen: `[N, 3]`, turned to the viewer.
      side: height and width of the drawing.

    Returns:
      uint8 `[side, side, 3]`.
    """
    low, high = seen.min(0), seen.max(0)
    extent = max((high - low)[:2].max(), 1e-9)
    depth = (seen[:, 2] - low[2]) / max(high[2] - low[2], 1e-9)
    places = (seen[:, :2] - (low + high)[:2] / 2) / extent * (side - 5) + side / 2
    colors = _FAR + depth[:, None] * (_NEAR - _FAR)
    canvas = np.full((side, side, 3), _PAPER, np.uint8)
    radius = side // 128
    for i in np.argsort(depth):
        row, column = places[i].astype(int)
        canvas[row - radius : row + radius + 1, column - radius : column + radius + 1] = colors[i]
    return canvas
