"""Draws the figure of guides/point_clouds.md from a run of configs/p2p.py:furniture.

python docs/figures/point_clouds.py WORKDIR
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import dwconv_jax
from dwconv_jax.tasks.registry import create_task

SHOWN = ("chair", "lamp", "plant", "vehicle")
MARGIN = 24


def main() -> None:
    """Evaluates one batch, and draws a cloud of each of four classes."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    trained = dwconv_jax.load(sys.argv[1])
    task = create_task(trained.config)
    batch = next(task.eval_batches())
    names = [task.class_names[label] for label in batch["label"]]
    chosen = [names.index(name) for name in SHOWN]
    few = {name: array[chosen] for name, array in batch.items()}
    pictures = task.draw(few, {k: np.asarray(x) for k, x in trained.predict(few).items()})
    margins = ((0, MARGIN), (0, MARGIN), (0, 0))
    framed = [np.pad(picture, margins, constant_values=255) for picture in pictures]
    top, bottom = (np.concatenate(pair, 1) for pair in (framed[:2], framed[2:]))
    sheet = Image.fromarray(np.concatenate([top, bottom])[:-MARGIN, :-MARGIN]).quantize(256)
    sheet.save(Path(__file__).parent / "point_clouds.png", optimize=True)


if __name__ == "__main__":
    main()
