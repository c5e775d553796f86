"""Contact sheets: many pictures with captions in one file."""

import numpy as np
from etils import epath

from dwconv_jax.files import write_atomically
from dwconv_jax.visualize import contact_sheet
from dwconv_jax.visualize.page import png

_PICTURES = 48


class SheetWriter:
    """Writes `sheet_001.png`, `sheet_002.png`, ... into a folder, one sheet at a time."""

    def __init__(self, folder: epath.Path):
        self._folder, self._count = folder, 0
        self._images: list[np.ndarray] = []
        self._captions: list[str] = []

    def add(self, image: np.ndarray, caption: str) -> None:
        """Adds a picture, uint8 `[H, W, 3]`; all have the same size."""
        self._images.append(image)
        self._captions.append(caption)
        if len(self._images) == _PICTURES:
            self.flush()

    def flush(self) -> None:
        """Writes the unfinished sheet, if any."""
        if not self._images:
            return
        self._count += 1
        sheet = contact_sheet(np.stack(self._images), self._captions)
        write_atomically(self._folder / f"sheet_{self._count:03d}.png", png(sheet))
        self._images, self._captions = [], []
