"""Pictures and what is said of them: their files, and the names of these."""

import collections
import csv
import io
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageOps

from dwconv_jax.files import write_atomically

_OVERLAY = "_overlay"


def output_names(names: Sequence[str]) -> list[str]:
    """Names what is written about pictures, so that no two of them share a file.

    Args:
      names: of the pictures, all different, such as "cats/1.jpg".

    Returns:
      Each name without its suffix, such as "cats/1", unless that could mean another picture:
      "1.jpg" and "1.png" keep theirs, as does "1_overlay.jpg".
    """
    stems = [pathlib.PurePosixPath(name).with_suffix("").as_posix() for name in names]
    counts = collections.Counter([*names, *stems])
    return [
        name if counts[stem] > 1 or stem.endswith(_OVERLAY) else stem
        for name, stem in zip(names, stems, strict=True)
    ]


def read_upright(path: epath.Path) -> np.ndarray:
    """The pixels of a picture as models see them, turned by its EXIF: uint8 `[H, W, 3]`."""
    with path.open("rb") as file, Image.open(file) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def write_overlay(out: epath.Path, name: str, pixels: np.ndarray) -> None:
    """Writes what is drawn over a picture; see `write_png`."""
    write_png(out / f"{name}{_OVERLAY}.png", pixels)


def write_csv(path: epath.Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes a table, whose first row is the header."""
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    write_atomically(path, table.getvalue())


def write_png(path: epath.Path, pixels: np.ndarray) -> None:
    """Writes a PNG file, creating its folder; `pixels` are uint8 `[H, W]` or `[H, W, 3]`."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
