"""What can be checked of a figure without looking at it."""

import itertools
from unittest import mock

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def assert_readable(figure):
    """Every label is inside the figure, and no two of them touch."""
    canvas = FigureCanvasAgg(figure)
    drawn = {}
    draw = Text.draw

    def record(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn[id(text)] = text
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in drawn.values()]
    assert boxes, "the figure has no text"
    width, height = canvas.get_width_height()
    for text, box in boxes:
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside, f"{text!r} leaves the figure: {box}"
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or along < 1, f"{one!r} and {other!r} overlap"


def pictures(figure):
    """What the panels show, in the order of the panels: arrays of numbers, NaN where masked."""
    return [
        np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
        for axes in figure.axes
        for image in axes.get_images()
    ]
