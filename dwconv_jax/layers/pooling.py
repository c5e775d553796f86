"""Means over the parts of a map."""

import jax
import jax.numpy as jnp

from dwconv_jax.layers.canvas import WHOLE, Canvas


def adaptive_mean(x: jax.Array, size: int, canvas: Canvas = WHOLE) -> jax.Array:
    """PyTorch's adaptive average pooling, `[B, H, W, C]` to `[B, size, size, C]`.

    Part `i` of an axis of length `n` goes from `floor(i n / size)` to `ceil((i + 1) n / size)`.
    """
    of_image, shares = "" if canvas.extent is None else "b", []
    for axis, length in enumerate(x.shape[1:3]):
        n = jnp.asarray(length) if canvas.extent is None else canvas.extent[:, axis]
        n = jnp.expand_dims(n, (-2, -1))
        part = jnp.arange(size).reshape(*(1,) * (n.ndim - 2), size, 1)
        place = jnp.arange(length).reshape(*(1,) * (n.ndim - 2), 1, length)
        inside = (place >= part * n // size) & (place < -(-(part + 1) * n // size))
        shares.append(inside / inside.sum(-1, keepdims=True))
    means = jnp.einsum(
        f"bhwc,{of_image}ih,{of_image}jw->bijc", x.astype(jnp.float32), *shares, precision="highest"
    )
    return means.astype(x.dtype)
