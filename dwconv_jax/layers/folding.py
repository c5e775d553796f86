"""Batch norms as part of the weights beside them, for inference alone.

A module with norms that can be folded says how in a method `fold_norms`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.norms import BatchNorm


class FoldedNorm(nnx.Module):
    """Stands where a batch norm was that its neighbor has absorbed."""

    def __init__(self) -> None:
        self.use_running_average = True

    def __call__(
        self, x: jax.Array, train: bool | None = None, valid: jax.Array | None = None
    ) -> jax.Array:
        """`x` itself; ValueError in training, which needs the norm."""
        if is_training(train, self.use_running_average):
            raise ValueError("train=True does not go with folded batch norms: train the original")
        return x


def fold_after(linear: Any, norm: BatchNorm) -> FoldedNorm:
    """Folds a norm into the linear layer or convolution before it, whose outputs it normalizes."""
    scale, offset = norm.running_affine()
    linear.kernel[...] *= jnp.expand_dims(scale, range(linear.kernel.ndim - 1))
    if linear.bias is None:
        linear.bias, linear.use_bias = nnx.Param(offset), True
    else:
        linear.bias[...] = linear.bias[...] * scale + offset
    return FoldedNorm()


def fold_before(norm: BatchNorm, linear: Any) -> FoldedNorm:
    """Folds a norm into the linear layer after it, whose inputs it normalizes."""
    scale, offset = norm.running_affine()
    linear.bias[...] += offset @ linear.kernel[...]
    linear.kernel[...] *= scale[:, None]
    return FoldedNorm()
