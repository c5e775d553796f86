"""Compares an exported program with its model, and measures its latency."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.inference.program import Program

_WARM_UP, _RUNS, _SECONDS = 3, 20, 10.0


def random_pixels(image_shape: tuple[int, int, int], batch: int) -> np.ndarray:
    """Draws noise: uint8 `[batch, H, W, C]`."""
    return np.random.default_rng(0).integers(0, 256, (batch, *image_shape), dtype=np.uint8)


def relative_difference(
    program: Program, model: nnx.Module, dataset: ConfigDict, pixels: np.ndarray
) -> float:
    """Returns the largest difference between outputs, over the largest output of the model."""
    images = (pixels.astype(np.float32) / 255 - np.float32(dataset.mean)) / np.float32(dataset.std)
    graph, state = nnx.split(model)
    expected = jax.jit(lambda state, x: nnx.merge(graph, state)(x, train=False))(state, images)
    return float(jnp.abs(program(pixels) - expected).max() / jnp.abs(expected).max())


def latency_ms(program: Program, pixels: np.ndarray) -> float:
    """Returns the median time of a call on the default device, without compilation and copies.

    Programs that take seconds are called for some 10 seconds, and at least twice.
    """
    on_device = jax.device_put(pixels)
    jax.block_until_ready(program(on_device))  # compiles
    times: list[float] = []
    while len(times) < _WARM_UP + _RUNS and (len(times) < 2 or sum(times) < _SECONDS):
        started = time.perf_counter()
        jax.block_until_ready(program(on_device))
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[min(_WARM_UP, len(times) - 1) :])
