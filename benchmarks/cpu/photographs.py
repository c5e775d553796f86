"""Makes a folder of JPEG files like ImageNet's from photographs of scikit-image and -learn."""

from pathlib import Path

import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image

# ImageNet's images are mostly 500x375, and 110 kB on average.
_SIZE, _QUALITY = (500, 375), 95


def make_folder(root: Path, count: int) -> None:
    """Writes `count` files to `root`/train/{even,odd} and two to `root`/val.

    Each is a random crop of one of seven photographs; the files are the same every time.
    """
    photographs = _photographs()
    rng = np.random.default_rng(0)
    for split, number in ("train", count), ("val", 2):
        for i in range(number):
            photograph = photographs[i % len(photographs)]
            name = root / split / ("even", "odd")[i % 2] / f"{i:05}.jpg"
            name.parent.mkdir(parents=True, exist_ok=True)
            _random_part(photograph, rng).save(name, quality=_QUALITY)


def _photographs() -> list[Image.Image]:
    """Landscapes, a portrait, a cat, a cup of coffee, a rocket, motorcycles."""
    names = ("astronaut", "chelsea", "coffee", "rocket")
    arrays = [*sklearn.datasets.load_sample_images().images]
    arrays += [getattr(skimage.data, name)() for name in names]
    arrays.append(skimage.data.stereo_motorcycle()[0])
    return [Image.fromarray(array) for array in arrays]


def _random_part(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = photograph.size
    largest = min(width / _SIZE[0], height / _SIZE[1])
    scale = largest * rng.uniform(0.7, 1)
    part_width, part_height = (scale * side for side in _SIZE)
    left, top = rng.uniform(0, width - part_width), rng.uniform(0, height - part_height)
    box = (left, top, left + part_width, top + part_height)
    return photograph.resize(_SIZE, Image.Resampling.BICUBIC, box)
