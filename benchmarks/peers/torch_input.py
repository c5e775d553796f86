"""ImageNet's input as PyTorch users write it: Pillow in the workers of a DataLoader.

The transforms are those of torchvision and timm, written with only Pillow and PyTorch, so that the
peer's interpreter needs nothing else.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.utils.data import DataLoader, Dataset

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FILL = tuple(round(255 * mean) for mean in _MEAN)
_BICUBIC = Image.Resampling.BICUBIC


def batches(folder: str, size: int, batch: int, workers: int, full: bool) -> Iterator[torch.Tensor]:
    """Endless shuffled batches of a folder's images; `full` adds RandAugment and erasing."""
    files = _Files(folder, size, full)
    loader = DataLoader(
        files, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


class _Files(Dataset):
    def __init__(self, folder: str, size: int, full: bool):
        self._paths = sorted(Path(folder).rglob("*.jpg"))
        self._size, self._full = size, full
        self._mean, self._std = (torch.tensor(x).view(3, 1, 1) for x in (_MEAN, _STD))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB")
        image = _random_resized_crop(image, self._size)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self._full:
            for operation in random.choices(_OPERATIONS, k=2):
                if random.random() < 0.5:
                    magnitude = min(max(random.gauss(9, 0.5), 0), 10) / 10
                    image = operation(image, magnitude, random.choice((-1, 1)) * magnitude)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        tensor = tensor.to(torch.float32).div(255).sub_(self._mean).div_(self._std)
        if self._full and random.random() < 0.25:
            _erase(tensor)
        return tensor


def _random_resized_crop(image: Image.Image, size: int) -> Image.Image:
    for _ in range(10):
        area = random.uniform(0.08, 1) * image.width * image.height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if width <= image.width and height <= image.height:
            left = random.randint(0, image.width - width)
            top = random.randint(0, image.height - height)
            box = (left, top, left + width, top + height)
            return image.crop(box).resize((size, size), _BICUBIC)
    return ImageOps.fit(image, (size, size), _BICUBIC)


def _erase(image: torch.Tensor) -> None:
    _, height, width = image.shape
    for _ in range(10):
        area = random.uniform(0.02, 1 / 3) * height * width
        aspect = math.exp(random.uniform(math.log(0.3), -math.log(0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = random.randint(0, height - h), random.randint(0, width - w)
            image[:, top : top + h, left : left + w].normal_()
            return


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    affine = Image.Transform.AFFINE
    return image.transform(image.size, affine, matrix, _BICUBIC, fillcolor=_FILL)


def _solarize_add(image: Image.Image, amount: int) -> Image.Image:
    return image.point([i + amount if i < 128 else i for i in range(256)] * 3)


def _enhance(kind: type, image: Image.Image, signed: float) -> Image.Image:
    return kind(image).enhance(1 + 0.9 * signed)


# (image, magnitude / 10, the same with a random sign) -> image
_OPERATIONS: list[Callable[[Image.Image, float, float], Image.Image]] = [
    lambda x, m, s: ImageOps.autocontrast(x),
    lambda x, m, s: ImageOps.equalize(x),
    lambda x, m, s: ImageOps.invert(x),
    lambda x, m, s: x.rotate(30 * s, _BICUBIC, fillcolor=_FILL),
    lambda x, m, s: ImageOps.posterize(x, max(4 - int(4 * m), 1)),
    lambda x, m, s: ImageOps.solarize(x, 256 - int(256 * m)),
    lambda x, m, s: _solarize_add(x, int(110 * m)),
    lambda x, m, s: _enhance(ImageEnhance.Color, x, s),
    lambda x, m, s: _enhance(ImageEnhance.Contrast, x, s),
    lambda x, m, s: _enhance(ImageEnhance.Brightness, x, s),
    lambda x, m, s: _enhance(ImageEnhance.Sharpness, x, s),
    lambda x, m, s: _affine(x, 1, 0.3 * s, 0, 0, 1, 0),
    lambda x, m, s: _affine(x, 1, 0, 0, 0.3 * s, 1, 0),
    lambda x, m, s: _affine(x, 1, 0, 0.45 * s * x.width, 0, 1, 0),
    lambda x, m, s: _affine(x, 1, 0, 0, 0, 1, 0.45 * s * x.height),
]
