"""Weights that do not quite fit a model: another head, windows of another size."""

import math

import jax
import numpy as np


def adapt(name: str, value: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
    """Makes a weight fit, if that has a meaning.

    Args:
      name: of the weight, in our names or PyTorch's.
      value: as found.
      shape: as the model has it.

    Returns:
      The weight for the model, or None for the model's own (a head of other classes), and a
      sentence that says what was done.

    Raises:
      ValueError: if nothing sensible makes it fit.
    """
    change = f"{name}: {list(value.shape)} to {list(shape)}"
    if name.startswith("head"):
        return None, f"left out {name} {list(value.shape)}; the model has its own {list(shape)}"
    if _is_position_table(name) and value.ndim == 2 and value.shape[1] == shape[1]:
        return resize_position_table(value, shape[0]), f"resized {change} (bicubic)"
    raise ValueError(f"misshapen {change}")


def resize_position_table(table: np.ndarray, rows: int) -> np.ndarray:
    """Resizes a relative position table of square windows, `[(2 w - 1)**2, heads]`, bicubically."""
    old, new = math.isqrt(table.shape[0]), math.isqrt(rows)
    if old**2 != table.shape[0] or new**2 != rows:
        raise ValueError(f"position tables of {table.shape[0]} and {rows} rows are not both square")
    square = table.reshape(old, old, -1)
    resized = jax.image.resize(square, (new, new, square.shape[-1]), "cubic")
    return np.asarray(resized, table.dtype).reshape(rows, -1)


def _is_position_table(name: str) -> bool:
    return name.endswith(("relative_position_bias_table", "position_bias/table"))
