"""Probabilities of whole images: averaged over scales and mirrored views, at any size."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Segmenter = Callable[[jax.Array], jax.Array]


def mean_probabilities(
    model: Segmenter,
    views: Sequence[jax.Array],
    sizes: jax.Array,
    canvas: tuple[int, int],
    *,
    flip: bool,
) -> jax.Array:
    """Averages probabilities over scales and mirrored views, at the original sizes.

    Args:
      model: maps `[B, h, w, C]` to logits `[B, h, w, K]`.
      views: the same images at each scale, `[B, h, w, C]`.
      sizes: int `[B, 2]`, original heights and widths, at most those of the canvas.
      canvas: `(H, W)` of the result.
      flip: adds the mirror image of every view.

    Returns:
      float32 `[B, H, W, K]`; pixels outside an image repeat its border.
    """

    def probabilities(logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(resize_to_sizes(logits, sizes, canvas))

    total = [probabilities(model(view)) for view in views]
    if flip:
        total += [probabilities(model(view[:, :, ::-1])[:, :, ::-1]) for view in views]
    return sum(total[1:], total[0]) / len(total)


def resize_to_sizes(x: jax.Array, sizes: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Resizes each image of a batch to its own size, bilinear like `resize`.

    Args:
      x: `[B, h, w, K]`.
      sizes: int `[B, 2]`, heights and widths to resize to, at most those of the canvas.
      canvas: `(H, W)` of the result.

    Returns:
      `[B, H, W, K]`; pixels outside an image repeat its border.
    """

    def along(x: jax.Array, size: jax.Array, length: int, axis: int) -> jax.Array:
        n = x.shape[axis]
        source = (jnp.arange(length) + 0.5) * (n / size) - 0.5
        source = jnp.clip(source, 0, n - 1)
        lower = jnp.floor(source).astype(jnp.int32)
        shape = [length if i == axis else 1 for i in range(x.ndim)]
        share = (source - lower).reshape(shape).astype(x.dtype)
        below = jnp.take(x, lower, axis)
        return below + share * (jnp.take(x, jnp.minimum(lower + 1, n - 1), axis) - below)

    def one(x: jax.Array, size: jax.Array) -> jax.Array:
        return along(along(x, size[0], canvas[0], 0), size[1], canvas[1], 1)

    return jax.vmap(one)(x, sizes)
