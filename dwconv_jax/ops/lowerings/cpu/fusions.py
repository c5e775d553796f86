"""Prevents XLA:CPU from computing a sum of products again in every consumer."""

from collections.abc import Callable

import jax
from jax import lax


def compute_once(compute: Callable[[], jax.Array], like: jax.Array) -> jax.Array:
    """Returns `compute()`, kept out of the fusions of its consumers.

    XLA:CPU considers sums of products cheap: it fuses all taps of a kernel into every consumer and
    computes them again in each. In a training step a convolution has five consumers (the mean, the
    variance, the norm and their gradients). XLA removes optimization barriers before fusion, but
    not loops, so this wraps the computation in a loop.

    Args:
      compute: the computation.
      like: an array with the shape and dtype of the result.
    """

    def in_loop() -> jax.Array:
        # XLA would unroll a loop of one step; the second step does nothing.
        return lax.fori_loop(0, 2, lambda i, y: lax.cond(i == 0, compute, lambda: y), like)

    return lax.platform_dependent(cpu=in_loop, default=compute)
