"""What XLA:CPU needs to be told about fusion."""

from collections.abc import Callable

import jax
from jax import lax


def compute_once(compute: Callable[[], jax.Array], like: jax.Array) -> jax.Array:
    """`compute()`, kept out of the fusions of those who read it.

    XLA:CPU takes sums of products for cheap: it fuses all taps of a kernel into every reader, and
    computes them again in each. In a training step a convolution has five (the mean, the variance,
    the norm and their gradients). An optimisation barrier is removed before fusion; a loop stays.

    Args:
      compute: what to compute.
      like: an array with the shape and dtype of the result.

    Returns:
      The result.
    """

    def in_loop() -> jax.Array:
        # A loop of one step would be unrolled, so that the second one does nothing.
        return lax.fori_loop(0, 2, lambda i, y: lax.cond(i == 0, compute, lambda: y), like)

    return lax.platform_dependent(cpu=in_loop, default=compute)
