"""Loops inside TPU kernels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def for_each(counts: tuple[int, ...], work: Callable[..., None], *at: jax.Array) -> None:
    """Calls `work` with all indices below `counts`, in nested loops."""
    if len(at) == len(counts):
        work(*at)
    else:
        lax.fori_loop(0, counts[len(at)], lambda i, _: for_each(counts, work, *at, i), None)


def clear(ref, axes: int) -> None:
    """Fills `ref` with zeros, in loops over its first axes."""

    def clear_at(*at: jax.Array) -> None:
        ref[at] = jnp.zeros(ref.shape[axes:], ref.dtype)

    for_each(ref.shape[:axes], clear_at)


def largest_divisor(size: int, most: int) -> int:
    """The largest divisor of `size` up to `most`."""
    return max(n for n in range(1, most + 1) if size % n == 0)
