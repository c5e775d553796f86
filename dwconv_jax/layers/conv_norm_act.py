"""Convolution, batch norm and activation."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.convolution import convolve
from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.folding import fold_after
from dwconv_jax.layers.initializers import conv_init, fan_out_init
from dwconv_jax.layers.norms import BatchNorm


def conv2d(
    in_features: int,
    features: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    padding: int | None = None,
    use_bias: bool = True,
    rngs: nnx.Rngs,
    **dtypes: Any,
) -> nnx.Conv:
    """A convolution, initialized as PyTorch's; `padding` is `kernel_size // 2` by default."""
    init = conv_init(in_features * kernel_size**2)
    return nnx.Conv(
        in_features,
        features,
        (kernel_size, kernel_size),
        strides=stride,
        padding=kernel_size // 2 if padding is None else padding,
        use_bias=use_bias,
        kernel_init=init,
        bias_init=init,
        promote_dtype=keep_input_dtype,
        conv_general_dilated=convolve,
        rngs=rngs,
        **dtypes,
    )


class ConvNormAct(nnx.Module):
    """Convolution without bias, batch norm, activation (ReLU by default)."""

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: str | int | None = None,
        activation: str | None = "relu",
        epsilon: float = 1e-5,
        group_size: int | None = None,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        """Creates the layer.

        Args:
          in_features: channels of the input.
          features: channels of the output.
          kernel_size: of both axes.
          stride: of both axes.
          padding: "SAME" as in JAX and TensorFlow, or positions on every side; None for
            `kernel_size // 2`, PyTorch's usual choice.
          activation: a function of `jax.nn` by name; None for none.
          epsilon: of the norm.
          group_size: see `BatchNorm`.
          rngs: initialization keys.
          **dtypes: `dtype` and `param_dtype`.
        """
        self.activation, self.out_features = activation, features
        self.conv = nnx.Conv(
            in_features,
            features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=kernel_size // 2 if padding is None else padding,
            use_bias=False,
            kernel_init=fan_out_init,
            promote_dtype=keep_input_dtype,
            conv_general_dilated=convolve,
            rngs=rngs,
            **dtypes,
        )
        self.norm: Any = BatchNorm(features, epsilon=epsilon, group_size=group_size, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None, valid: jax.Array | None = None
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, H / stride, W / stride, C]`, rounded as padding has it.

        Args:
          x: `[B, H, W, C_in]`.
          train: see `BatchNorm`.
          valid: of the output; see `BatchNorm`.
        """
        return self.activate(self.conv(x), train, valid)

    def activate(
        self, y: jax.Array, train: bool | None, valid: jax.Array | None = None
    ) -> jax.Array:
        """Norm and activation of the convolution's output `[B, H, W, C]`."""
        y = self.norm(y, train, valid)
        return y if self.activation is None else getattr(jax.nn, self.activation)(y)

    def fold_norms(self) -> None:
        """Makes the norm part of the convolution; for inference alone."""
        self.norm = fold_after(self.conv, self.norm)
