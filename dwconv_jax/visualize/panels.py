"""What all figures share: grids of small pictures, and colors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dwconv_jax.errors import MissingPackageError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
except ImportError as error:
    raise MissingPackageError(
        "dwconv_jax.visualize needs matplotlib: pip install 'dwconv-jax[visualize]'"
    ) from error

_NARROWEST = 5.5  # inches, so that titles fit
_CELL, _LINE = 1.5, 0.16  # inches: a picture of a contact sheet, a line of its caption


def grid(rows: int, columns: int, *, width: float = 1.3, height: float = 1.3) -> tuple[Figure, Any]:
    """A figure of `rows * columns` empty panels of that size in inches, and `axes[rows, columns]`.

    Figures are made without pyplot, which would keep each of them alive.
    """
    size = (max(columns * width, _NARROWEST), rows * height)
    # Ticks of color bars may grow after the layout: the padding has room for them.
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.14))
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    return figure, axes


def contact_sheet(
    images: np.ndarray, captions: Sequence[str], *, columns: int = 8, title: str | None = None
) -> Figure:
    """Draws pictures side by side, each with a caption above.

    Args:
      images: `[B, H, W, C]`: uint8, or floats, which are scaled by the range of each image.
      captions: one per picture, of one or a few lines; long lines are cut.
      columns: pictures in a row.
      title: above all of them.

    Raises:
      ValueError: if there are no pictures, or not as many captions.
    """
    if not len(images) or len(images) != len(captions):
        raise ValueError(f"{len(images)} images need as many captions, got {len(captions)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    head = 0.1 if title is None else 0.4
    width, height = columns * _CELL, rows * (_CELL + lines * _LINE) + head
    figure = Figure(figsize=(width, height))
    # Placed by hand: a layout engine takes seconds for a sheet.
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(i, columns)
        left, bottom = (column + 0.05) * _CELL, height - head - (row + 1) * (_CELL + lines * _LINE)
        box = (left / width, bottom / height, 0.9 * _CELL / width, 0.9 * _CELL / height)
        panel = figure.add_axes(box)
        panel.set_axis_off()
        show_picture(panel, image)
        short = (line if len(line) <= 20 else line[:19] + "…" for line in caption.split("\n"))
        panel.set_title("\n".join(short), size=8, pad=3)
    if title is not None:
        figure.suptitle(title, y=1 - 0.1 / height, va="top")
    return figure


def show_picture(panel: Axes, image: np.ndarray, **options: Any) -> None:
    """Draws an image as `as_picture` returns it."""
    panel.imshow(as_picture(image), cmap="gray", vmin=0, vmax=1, **options)


def as_picture(image: np.ndarray) -> np.ndarray:
    """Scales an image `[H, W, C]` to 0..1: uint8 by 255, other types by their own range.

    Returns:
      `[H, W, 3]`, or `[H, W]` for another number of channels.
    """
    low, high = (0, 255) if image.dtype == np.uint8 else (image.min(), image.max())
    image = (image.astype(np.float32) - low) / max(high - low, 1e-12)
    return image if image.shape[-1] == 3 else image.mean(-1)


def weight_colors(weights: np.ndarray) -> dict[str, Any]:
    """Returns colors for weights: diverging around 0 if some are negative, else rising from 0."""
    largest = float(np.nanmax(np.abs(weights))) or 1.0
    if np.nanmin(weights) < 0:
        return dict(cmap="RdBu_r", vmin=-largest, vmax=largest)
    return dict(cmap="viridis", vmin=0, vmax=largest)
