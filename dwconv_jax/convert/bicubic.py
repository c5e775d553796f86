"""PyTorch's bicubic resizing, with which Swin's own code resizes position tables."""

import numpy as np

# PyTorch's free parameter of the cubic; others take -0.5.
_A = -0.75


def resize_bicubic(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes `[H, W, C]` to `size`, without antialiasing, with half-pixel centers."""
    rows, cols = (_weights(old, new) for old, new in zip(x.shape[:2], size, strict=True))
    return np.einsum("ih,jw,hwc->ijc", rows, cols, x).astype(x.dtype)


def _weights(old: int, new: int) -> np.ndarray:
    """The weight of each old pixel in each new one, `[new, old]`; borders are repeated."""
    center = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(center).astype(int)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        place = np.clip(first + tap, 0, old - 1)
        weights[np.arange(new), place] += _cubic(np.abs(first + tap - center))
    return weights


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel at distances from 0 to 2."""
    d = distance
    near = (_A + 2) * d**3 - (_A + 3) * d**2 + 1
    far = _A * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, far)
