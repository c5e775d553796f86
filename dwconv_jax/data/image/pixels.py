"""From the numbers a network sees back to pixels; without TensorFlow."""

import numpy as np

from dwconv_jax.data.config import DatasetConfig


def to_pixels(image: np.ndarray, config: DatasetConfig) -> np.ndarray:
    """Inverts `normalize.normalize`.

    Args:
      image: float `[height, width, 1 or 3]`.
      config: its `mean` and `std` are in units of 0..1.

    Returns:
      uint8 `[height, width, 3]`; gray images have three equal channels.
    """
    pixels = (image * np.asarray(config.std) + np.asarray(config.mean)) * 255
    levels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return np.broadcast_to(levels, (*levels.shape[:2], 3))
