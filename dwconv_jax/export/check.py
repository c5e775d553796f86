"""Whether an exported program is the model, and how long it takes."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from ml_collections import ConfigDict

_WARM_UP, _RUNS = 3, 20


def random_pixels(exported: export.Exported, batch: int) -> np.ndarray:
    """Noise that the program takes: uint8 `[batch, H, W, C]`."""
    shape = (batch, *exported.in_avals[0].shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def relative_difference(
    exported: export.Exported, model: nnx.Module, dataset: ConfigDict, batch: int = 8
) -> float:
    """The largest difference of the outputs on noise, over the largest output of the model."""
    pixels = random_pixels(exported, batch)
    images = (pixels.astype(np.float32) / 255 - np.float32(dataset.mean)) / np.float32(dataset.std)
    graph, state = nnx.split(model)
    expected = jax.jit(lambda state, x: nnx.merge(graph, state)(x, train=False))(state, images)
    difference = jnp.abs(exported.call(pixels) - expected).max()
    return float(difference / jnp.abs(expected).max())


def latency_ms(exported: export.Exported, batch: int) -> float:
    """Median milliseconds of a call on the default device, compilation and copies in aside."""
    call, pixels = jax.jit(exported.call), jax.device_put(random_pixels(exported, batch))
    times = []
    for _ in range(_WARM_UP + _RUNS):
        started = time.perf_counter()
        jax.block_until_ready(call(pixels))
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[_WARM_UP:])
