"""Heads for regions of interest: class, box and mask."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.layers.convolution import convolve
from dwconv_jax.layers.initializers import fan_out_init, full, normal, xavier_uniform
from dwconv_jax.models.torch_layout import (
    Entry,
    Layout,
    conv,
    conv1x1,
    conv_norm_act,
    linear,
    raw,
)

BOX_RESOLUTION = 7
MASK_RESOLUTION = 14
_NUM_CONVS = 4


class BoxHead(nnx.Module):
    """Four convolutions with batch norm, a hidden layer, then a class and a box for each class."""

    def __init__(
        self,
        features: int,
        hidden_features: int,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.convs = nnx.List(
            [ConvNormAct(features, features, 3, rngs=rngs, **dtypes) for _ in range(_NUM_CONVS)]
        )

        def linear(inputs: int, outputs: int, init: nnx.Initializer) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, kernel_init=init, rngs=rngs, **dtypes)

        inputs = BOX_RESOLUTION**2 * features
        self.hidden = linear(inputs, hidden_features, xavier_uniform)
        self.classification = linear(hidden_features, num_classes + 1, normal(0.01))
        self.regression = linear(hidden_features, 4 * num_classes, normal(0.001))

    def __call__(
        self, x: jax.Array, train: bool | None = None, valid: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Classifies regions and predicts their boxes.

        Args:
          x: pooled features, `[R, 7, 7, C]`.
          train: use the batch statistics of all regions.
          valid: bool `[R]`, the regions that count in batch statistics; None for all.

        Returns:
          float32 logits of the classes and, last, of the background, `[R, K + 1]`, and codes of a
          box for each class, `[R, K, 4]`.
        """
        mask = None if valid is None else valid[:, None, None, None]
        for conv_norm in self.convs:
            x = conv_norm(x, train, mask)
        x = jax.nn.relu(self.hidden(x.reshape(len(x), -1)))
        codes = self.regression(x).astype(jnp.float32)
        return self.classification(x).astype(jnp.float32), codes.reshape(len(x), -1, 4)

    def torch_layout(self) -> Layout:
        """The entries of mmdet's checkpoints."""
        yield from linear(self.classification, "fc_cls")
        yield from linear(self.regression, "fc_reg")
        for i, module in enumerate(self.convs):
            yield from conv_norm_act(module, f"shared_convs.{i}")
        kernel = self.hidden.kernel
        inputs, features = kernel.shape
        # Its inputs are flattened channels first there, last here.
        split = (BOX_RESOLUTION, BOX_RESOLUTION, inputs // BOX_RESOLUTION**2, features)
        yield Entry("shared_fcs.0.weight", kernel, (features, inputs), split, order=(3, 2, 0, 1))
        yield raw(self.hidden.bias, "shared_fcs.0.bias")


class MaskHead(nnx.Module):
    """Four convolutions, upsampling by two, and a mask for each class."""

    def __init__(self, features: int, num_classes: int, *, rngs: nnx.Rngs, **dtypes: Any):

        def make_conv() -> nnx.Conv:
            options: dict[str, Any] = dict(kernel_init=fan_out_init, conv_general_dilated=convolve)
            return nnx.Conv(features, features, (3, 3), rngs=rngs, **options, **dtypes)

        self.convs = nnx.List([make_conv() for _ in range(_NUM_CONVS)])
        self.upsample = Upsample(features, rngs=rngs, **dtypes)
        self.logits = nnx.Linear(
            features, num_classes, kernel_init=fan_out_init, rngs=rngs, **dtypes
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Pooled features `[R, 14, 14, C]` to float32 logits `[R, 28, 28, K]`."""
        for module in self.convs:
            x = jax.nn.relu(module(x))
        return self.logits(jax.nn.relu(self.upsample(x))).astype(jnp.float32)

    def torch_layout(self) -> Layout:
        """The entries of mmdet's checkpoints."""
        for i, module in enumerate(self.convs):
            yield from conv(module, f"convs.{i}.conv")
        kernel = self.upsample.linear.kernel
        features = kernel.shape[0]
        yield Entry(
            "upsample.weight",
            kernel,
            (features, features, 2, 2),
            split=(features, 2, 2, features),
            order=(0, 3, 1, 2),
        )
        yield raw(self.upsample.bias, "upsample.bias")
        yield from conv1x1(self.logits, "conv_logits")


class Upsample(nnx.Module):
    """A transposed convolution of kernel 2 and stride 2: each position becomes four."""

    def __init__(self, features: int, *, rngs: nnx.Rngs, **dtypes: Any):
        # PyTorch takes the fan of a transposed convolution from its inputs, 4 * features.
        init = normal((2 / (4 * features)) ** 0.5)
        self.linear = nnx.Linear(
            features, 4 * features, use_bias=False, kernel_init=init, rngs=rngs, **dtypes
        )
        self.bias = nnx.Param(full(features, 0, dtypes.get("param_dtype", jnp.float32)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[R, H, W, C]` to `[R, 2 H, 2 W, C]`."""
        count, height, width, features = x.shape
        y = self.linear(x).reshape(count, height, width, 2, 2, features)
        # In two steps, which meshes with explicit axes can follow.
        y = y.swapaxes(2, 3).reshape(count, 2 * height, width, 2, features)
        y = y.reshape(count, 2 * height, 2 * width, features)
        return y + self.bias[...].astype(y.dtype)[None, None, None]
