"""How tests compare arrays: by the largest difference over the largest value."""

import jax
import numpy as np


def relative_error(actual: jax.Array | np.ndarray, expected: jax.Array | np.ndarray) -> float:
    """`max|a - b| / max|b|`; infinite where `actual` is not finite or has another shape."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))


def assert_close(actual, expected, tolerance: float, name: str = "") -> None:
    error = relative_error(actual, expected)
    assert error <= tolerance, f"{name}: relative error {error:.2e} > {tolerance:.0e}"
