"""Writes pictures of predictions."""

import io

import numpy as np
from etils import epath
from PIL import Image

from dwconv_jax.files import write_atomically


def write_png(path: epath.Path, pixels: np.ndarray) -> None:
    """Writes a PNG file, creating its folder; `pixels` are uint8 `[H, W]` or `[H, W, 3]`."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
