"""Convolution, batch norm and ReLU, for the heads of dense prediction."""

import functools
from typing import Any

import jax
from flax import nnx
from jax import lax

from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.folding import fold_after
from dwconv_jax.layers.norms import BatchNorm
from dwconv_jax.ops.sharding import by_xla, split_of


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Any,
    padding: Any,
    *,
    out_sharding: Any,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` for `nnx.Conv`; on a mesh with explicit axes, split by images."""
    del out_sharding
    conv = functools.partial(
        lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    return by_xla(conv, x, kernel, split=(split_of(x)[0], None, None, None))


class ConvNormAct(nnx.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, in_features: int, features: int, kernel_size: int, *, rngs: nnx.Rngs, **dtypes: Any
    ):
        self.conv = nnx.Conv(
            in_features,
            features,
            (kernel_size, kernel_size),
            use_bias=False,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            promote_dtype=keep_input_dtype,
            conv_general_dilated=convolve,
            rngs=rngs,
            **dtypes,
        )
        self.norm: Any = BatchNorm(features, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None, valid: jax.Array | None = None
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, H, W, C]`; for `valid` see `BatchNorm`."""
        return jax.nn.relu(self.norm(self.conv(x), train, valid))

    def fold_norms(self) -> None:
        """Makes the norm part of the convolution; for inference alone."""
        self.norm = fold_after(self.conv, self.norm)
