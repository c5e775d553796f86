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
    gap = np.full((pictures[0].shape[0], 24, 3), 255, np.uint8)
    rows = [np.concatenate([left, gap, right], 1) for left, right in (pictures[:2], pictures[2:])]
    sheet = Image.fromarray(np.concatenate(rows)).quantize(64)
    sheet.save(Path(__file__).parent / "point_clouds.png", optimize=True)


if __name__ == "__main__":
    main()
