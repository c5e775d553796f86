"""Windows and the whole map: cut the map into blocks and multiply matrices."""

import jax
import jax.numpy as jnp

from dwconv_jax.ops.connectivity import Global, Window


def partition(x: jax.Array, connectivity: Window | Global) -> jax.Array:
    """`[B, H, W, ...]` to blocks `[B, N, Q, ...]`, zero-padded and rolled as the windows ask."""
    batch, height, width, *rest = x.shape
    window = connectivity.fitted(height, width)
    (rows, cols), (wh, ww) = window.grid(height, width), window.window_size
    bottom, right = rows * wh - height, cols * ww - width
    x = jnp.pad(x, ((0, 0), (0, bottom), (0, right)) + ((0, 0),) * len(rest))
    sh, sw = window.shift
    if sh or sw:
        x = jnp.roll(x, (-sh, -sw), axis=(1, 2))
    x = x.reshape(batch, rows, wh, cols, ww, *rest).swapaxes(2, 3)
    return x.reshape(batch, rows * cols, wh * ww, *rest)


def merge(blocks: jax.Array, connectivity: Window | Global, height: int, width: int) -> jax.Array:
    """The inverse of `partition`: `[B, N, Q, ...]` to `[B, H, W, ...]`, cropped."""
    batch, _, _, *rest = blocks.shape
    window = connectivity.fitted(height, width)
    (rows, cols), (wh, ww) = window.grid(height, width), window.window_size
    x = blocks.reshape(batch, rows, cols, wh, ww, *rest).swapaxes(2, 3)
    x = x.reshape(batch, rows * wh, cols * ww, *rest)
    sh, sw = window.shift
    if sh or sw:
        x = jnp.roll(x, (sh, sw), axis=(1, 2))
    return x[:, :height, :width]


def mix(x: jax.Array, weights: jax.Array, connectivity: Window | Global) -> jax.Array:
    """Mixes each block of `x` `[B, H, W, C]` by `weights` `[B or 1, N or 1, Q, K, G]`."""
    batch, height, width, channels = x.shape
    groups = weights.shape[-1]
    seen = partition(x.reshape(batch, height, width, groups, channels // groups), connectivity)
    # An axis of length 1 is summed away by name, so that the product stays one matrix product.
    b, n = ("" if size == 1 else axis for size, axis in zip(weights.shape[:2], "bn", strict=True))
    squeezed = weights.reshape(
        *(size for size in weights.shape[:2] if size != 1), *weights.shape[2:]
    )
    # In this order: with the weights first XLA:CPU multiplies transposed matrices, half as fast.
    mixed = jnp.einsum(f"bnkgd,{b}{n}qkg->bnqgd", seen, squeezed, preferred_element_type=seen.dtype)
    return merge(mixed.reshape(*mixed.shape[:3], channels), connectivity, height, width)


def logits(q: jax.Array, k: jax.Array, connectivity: Window | Global) -> jax.Array:
    """Products of queries and keys `[B, H, W, heads, D]` of each block: `[B, N, heads, Q, K]`."""
    queries, keys = partition(q, connectivity), partition(k, connectivity)
    return jnp.einsum("bnqgd,bnkgd->bngqk", queries, keys)
