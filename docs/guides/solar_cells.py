"""Lays out photographs of solar cells in a folder for each class: 200 to train, 150 to test.

pip install elpv-dataset
python docs/guides/solar_cells.py data/solar_cells

The package has 2,624 pictures of 300x300 pixels in gray, which show cells by the light that they
emit under current. Experts judged how likely a cell is defective: 0, 1/3, 2/3 or 1; only those of 0
and 1 are used here.
Deitsch et al., "Automatic classification of defective photovoltaic module cells in
electroluminescence images" (Solar Energy 185, 2019); CC BY-NC-SA 4.0.
"""

import shutil
import sys
from pathlib import Path

import numpy as np


def main(root: Path) -> None:
    """Copies the pictures to `root/{train,test}/{functional,defective}`."""
    import elpv_dataset

    source = Path(elpv_dataset.__file__).parent / "data"
    rows = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    for name, judgment in (("functional", 0.0), ("defective", 1.0)):
        files = [file for file, probability, _ in rows if float(probability) == judgment]
        drawn = np.random.default_rng(0).permutation(files)
        for split, part in (("train", drawn[:200]), ("test", drawn[200:350])):
            folder = root / split / name
            folder.mkdir(parents=True)
            for file in part:
                shutil.copy(source / file, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
