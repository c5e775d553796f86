"""Sliding attention by tiles: neighboring queries share a matrix product with all that they see."""

from dwconv_jax.ops.lowerings.tiles.attend import attend

__all__ = ["attend"]
