"""Numbers computed with the authors' PyTorch code, in the compact form that `pack.py` writes.

A file is an xz-compressed `.npz`. Inputs and parameters are whole and exact. Of what the code must
reproduce, large arrays are sampled (see `sample`) and rounded to 16 significant bits, which is an
error of up to 1.5e-5.
"""

import dataclasses
import io
import itertools
import json
import lzma
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.numerics import assert_close

FOLDER = Path(__file__).parent
SAMPLES = 1024


@dataclasses.dataclass(frozen=True)
class Golden:
    """One file: how the numbers were made, and the numbers."""

    config: Any
    arrays: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def under(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names start with `prefix/`, without it."""
        prefix += "/"
        names = [name for name in self.arrays if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.arrays[name] for name in names}


def load(name: str) -> Golden:
    """Reads one of the files beside this one."""
    with lzma.open(FOLDER / f"{name}.npz.xz") as file, np.load(io.BytesIO(file.read())) as arrays:
        config = json.loads(str(arrays["config"]))
        names = [name for name in arrays if name != "config"]
        return Golden(config, {name: from_planes(arrays[name]) for name in names})


def to_planes(array: np.ndarray) -> np.ndarray:
    """float32 as its four bytes, apart, which compress far better: `[...]` to uint8 `[4, ...]`."""
    if array.dtype != np.float32:
        return array
    return np.moveaxis(np.asarray(array, "<f4")[..., None].view(np.uint8), -1, 0)


def from_planes(array: np.ndarray) -> np.ndarray:
    """The inverse of `to_planes`."""
    if array.dtype != np.uint8:
        return array
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)).view("<f4")[..., 0]


def sample(array: np.ndarray) -> np.ndarray:
    """About `SAMPLES` elements of an array, from all its rows and columns; small ones whole."""
    size = array.size
    # A step without a factor in common with the size meets every index of every axis.
    step = next(s for s in itertools.count(max(1, size // SAMPLES)) if math.gcd(s, size) == 1)
    return np.ravel(array)[::step]


def assert_golden(
    actual: Mapping[str, Any], expected: Mapping[str, np.ndarray], tolerance: float
) -> None:
    """Every expected array is there, within a tolerance relative to its largest value."""
    for name, array in expected.items():
        assert_close(sample(np.asarray(actual[name])), array, tolerance, name)
