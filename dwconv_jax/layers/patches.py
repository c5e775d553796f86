"""Patch embedding and patch merging: from one stride to the next (Swin)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import linear, pointwise
from dwconv_jax.layers.norms import LayerNorm
from dwconv_jax.ops.sharding import Axes, by_xla, split_of


def pad_to_multiple(x: jax.Array, multiple: tuple[int, int]) -> jax.Array:
    """Zero-pads `[B, H, W, C]` right and bottom to multiples of `(h, w)`."""
    bottom, right = (-size % m for size, m in zip(x.shape[1:3], multiple, strict=True))
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0))) if bottom or right else x


class PatchEmbed(nnx.Module):
    """A convolution of kernel and stride `patch_size`, then layer norm."""

    def __init__(
        self, in_channels: int, features: int, patch_size: int, *, rngs: nnx.Rngs, **dtypes: Any
    ):
        self.patch_size = patch_size
        self.proj = pointwise(patch_size**2 * in_channels, features, rngs=rngs, **dtypes)
        self.norm = LayerNorm(features, rngs=rngs, **dtypes)

    def __call__(
        self, images: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / p), ceil(W / p), features]`."""
        del train, canvas
        return self.norm(self.proj(cut_patches(images, self.patch_size)))


def cut_patches(x: jax.Array, size: int) -> jax.Array:
    """`[B, H, W, C]`, zero-padded, to patches `[B, ceil(H / size), ceil(W / size), size**2 C]`."""

    def cut(x: jax.Array) -> jax.Array:
        x = pad_to_multiple(x, (size, size))
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
        return x.reshape(batch, height // size, width // size, size**2 * channels)

    return by_xla(cut, x, split=_images_of(x))


class PatchMerging(nnx.Module):
    """Halves the map, and doubles the channels by default: 2x2 neighbors, layer norm, linear."""

    def __init__(
        self, features: int, out_features: int | None = None, *, rngs: nnx.Rngs, **dtypes: Any
    ):
        out_features = 2 * features if out_features is None else out_features
        self.norm = LayerNorm(4 * features, rngs=rngs, **dtypes)
        self.reduction = linear(4 * features, out_features, use_bias=False, rngs=rngs, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), out_features]`."""
        del train, canvas
        return self.reduction(self.norm(merge_neighbors(x)))


def merge_neighbors(x: jax.Array) -> jax.Array:
    """`[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), 4 C]`."""
    return by_xla(_merge_neighbors, x, split=_images_of(x))


def _merge_neighbors(x: jax.Array) -> jax.Array:
    x = pad_to_multiple(x, (2, 2))
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    # Swin's order of the four neighbors: (0, 0), (1, 0), (0, 1), (1, 1) in (row, column).
    x = x.transpose(0, 1, 3, 4, 2, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _images_of(x: jax.Array) -> tuple[Axes, ...]:
    """How devices split smaller maps of `x`: its images, since few rows do not always divide."""
    return (split_of(x)[0], None, None, None)
