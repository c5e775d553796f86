"""The channel-wise locally connected layer, written as its equation.

    y[b, i, c] = sum over j in N(i) of  w[b, i, j, g(c)] * x[b, j, c]

Slow and obviously right: it gathers every neighborhood. Every lowering is tested against it.
"""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.checks import check_operands
from dwconv_jax.ops.connectivity import Connectivity


def locally_connected(x: jax.Array, weights: jax.Array, connectivity: Connectivity) -> jax.Array:
    """The operator by gathering, with the signature of `ops.locally_connected`.

    Args:
      x: `[B, *spatial, C]`.
      weights: `[B or 1, N or 1, Q, K, G]`; channel `c` uses group `c // (C // G)`.
      connectivity: which positions see which; it fixes `N`, `Q` and `K`.

    Returns:
      `[B, *spatial, C]` in the common dtype of `x` and `weights`; sums are float32 at least.

    Raises:
      ValueError: if the shapes do not fit.
    """
    check_operands(x, weights, connectivity)
    batch, *size, channels = x.shape
    dtype = jnp.result_type(x, weights)
    wide = jnp.promote_types(dtype, jnp.float32)

    flat = x.reshape(batch, -1, channels).astype(wide)
    neighbours = connectivity.neighbours(*size)
    seen = flat[:, neighbours] * (neighbours >= 0)[None, ..., None]  # [B, N, Q, K, C]
    per_channel = jnp.repeat(weights.astype(wide), channels // weights.shape[-1], axis=-1)
    mixed = (per_channel * seen).sum(axis=3)  # [B, N, Q, C]

    outputs = connectivity.outputs(*size)
    inside = outputs >= 0
    y = jnp.zeros_like(flat).at[:, outputs[inside]].set(mixed[:, inside])
    return y.reshape(x.shape).astype(dtype)
