"""Times operators on a GPU, whose calls return before they have run."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.stages.case import Settings
from benchmarks.timing import compile_function

_REPEATS, _SECONDS = 5, 0.03  # measurements, and how long each takes at least
# Each call reads arrays that none of the last calls did, so that they come from memory and not from
# the L2 cache (50 MB on H100), and so many that launching the program takes less than running it.
_BYTES, _FEWEST, _MOST = 1 << 30, 4, 24


def num_inputs(bytes_moved: int, settings: Settings) -> int:
    """How many calls on different arrays one program makes."""
    return 1 if settings.dry_run else min(max(_BYTES // bytes_moved, _FEWEST), _MOST)


def copies(array: jax.Array, count: int) -> list[jax.Array]:
    """Arrays of the same numbers in another order."""
    return [jnp.roll(array, i, axis=-1) for i in range(count)]


def time_calls(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], settings: Settings
) -> tuple[float, float]:
    """Compiles one program of all calls; returns the seconds of a call and of the compilation."""

    def program(calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [function(*arguments) for arguments in calls]

    compiled, compile_seconds = compile_function(program, calls)
    seconds = seconds_of(lambda: compiled(calls), settings)
    return seconds / len(calls), compile_seconds


def seconds_of(call: Callable[[], Any], settings: Settings) -> float:
    """The median over measurements, each of many calls in flight."""
    for _ in range(2):  # the first loads kernels
        once = _mean_seconds(call, 1)
    if settings.dry_run:
        return once
    count = int(np.clip(_SECONDS / once, 2, 200))
    return float(np.median([_mean_seconds(call, count) for _ in range(_REPEATS)]))


def _mean_seconds(call: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - began) / count
