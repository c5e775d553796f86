"""The fast equivalents of `ops.definition`, one file a strategy, chosen here and nowhere else."""

import functools

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_choice, check_operands
from dwconv_jax.ops.connectivity import Connectivity, Sliding
from dwconv_jax.ops.lowerings.blocks import block_mix
from dwconv_jax.ops.lowerings.depthwise import depthwise
from dwconv_jax.ops.lowerings.per_position import per_position
from dwconv_jax.ops.lowerings.selection import LOWERINGS, Lowering, check_pallas
from dwconv_jax.ops.lowerings.tpu.platform import check_chip


# jit makes every call with the same shapes share one trace, which halves the tracing of a model.
@functools.partial(jax.jit, static_argnames=("connectivity", "lowering"))
def locally_connected(
    x: jax.Array, weights: jax.Array, connectivity: Connectivity, lowering: Lowering = "auto"
) -> jax.Array:
    """The channel-wise locally connected operator (paper section 2)::

        y[b, i, c] = sum over j in N(i) of  w[b, i, j, g(c)] * x[b, j, c]

    Picks a lowering by shape and platform; every one equals `ops.definition.locally_connected`.
    Differentiable (reverse mode) in `x` and `weights`.

    Args:
      x: `[B, H, W, C]`.
      weights: `[B or 1, N or 1, Q, K, G]`. Axis 0 is 1 for static weights; axis 1 is 1 when all
        blocks share them; channel `c` uses group `c // (C // G)`.
      connectivity: `Sliding`, `Window` or `Global`; it fixes `N`, `Q` and `K`.
      lowering: "auto" picks by shape and platform. "pallas" takes this project's kernels for TPU
        (v5e, v5p, v6e and later; other platforms do what "auto" does), for `Sliding` and at best a
        multiple of 128 images on each chip; nobody has timed them on hardware yet, which is why
        "auto" does not pick them (`benchmarks/tpu/hardware.py` does).

    Returns:
      `[B, H, W, C]` in the common dtype of `x` and `weights`.

    Raises:
      ValueError: if the shapes do not fit, naming what was found and what is legal; or where
        `lowering="pallas"` has no kernel, for the connectivity or the chip.
    """
    check_choice("lowering", lowering, LOWERINGS)
    check_operands(x, weights, connectivity)
    dtype = jnp.result_type(x, weights)
    x, weights = x.astype(dtype), weights.astype(dtype)
    if lowering == "pallas":
        dynamic = "pooled" if weights.shape[0] == x.shape[0] else "none"
        check_pallas(connectivity, dynamic, per_position=weights.shape[1] != 1)
        check_chip()
    if not isinstance(connectivity, Sliding):
        return block_mix(x, weights, connectivity)

    _, height, width, channels = x.shape
    copies, blocks, _, taps, groups = weights.shape
    if blocks == 1:
        kernel = weights.reshape(copies, *connectivity.kernel_size, groups)
        kernel = jnp.repeat(kernel, channels // groups, axis=-1)
        return depthwise(x, kernel, connectivity.dilation, lowering)
    weights = weights.reshape(copies, height, width, taps, groups)
    return per_position(x, weights, connectivity, lowering)
