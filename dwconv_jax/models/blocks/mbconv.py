"""Mobile inverted bottleneck with its norm first, as in MaxViT and CoAtNet."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import DepthwiseConv, SqueezeExcitation, pointwise
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import gelu_tanh
from dwconv_jax.layers.folding import fold_after, fold_before
from dwconv_jax.layers.initializers import fan_out_init, normal, redraw
from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.patches import pad_to_multiple
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.blocks.block import BlockSpec, DropPath
from dwconv_jax.models.family import batch_norm
from dwconv_jax.models.torch_layout import Layout
from dwconv_jax.ops.sharding import by_xla, split_of

EPSILON = 1e-3  # of batch norms, as in TensorFlow


class MBConv(nnx.Module):
    """Norm, 1x1 (four times wider), 3x3 depth-wise, gate, 1x1; beside it a pooled shortcut."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        self.stride, dtypes = spec.stride, spec.dtypes
        inputs, outputs, hidden = spec.in_features, spec.features, 4 * spec.features
        norm = functools.partial(batch_norm, config=spec.config, epsilon=EPSILON)
        self.shortcut: Any = nnx.data(
            pointwise(inputs, outputs, rngs=rngs, **dtypes) if inputs != outputs else None
        )
        self.norm_in: Any = norm(inputs)
        self.pointwise_in = pointwise(inputs, hidden, use_bias=False, rngs=rngs, **dtypes)
        self.norm_hidden: Any = norm(hidden)
        self.depthwise = DepthwiseConv(
            hidden, 3, stride=spec.stride, use_bias=False, rngs=rngs, **dtypes
        )
        self.norm_depthwise: Any = norm(hidden)
        self.gate = SqueezeExcitation(hidden, reduction=16, activation="silu", rngs=rngs, **dtypes)
        self.pointwise_out = pointwise(hidden, outputs, rngs=rngs, **dtypes)
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)
        redraw(self.depthwise.kernel, normal((2 / 9) ** 0.5), rngs=rngs)
        for _, layer in nnx.iter_modules(self):
            if isinstance(layer, nnx.Linear):
                redraw(layer.kernel, fan_out_init, rngs=rngs)
                if layer.bias is not None:
                    layer.bias.set_value(jnp.zeros_like(layer.bias[...]))

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`."""
        training = is_training(train, self.drop_path.deterministic)
        valid, own = canvas.valid(x), canvas.strided(self.stride)
        shortcut = _mean_pool(x) if self.stride > 1 else x
        shortcut = shortcut if self.shortcut is None else self.shortcut(shortcut)
        y = self.pointwise_in(self.norm_in(x, train, valid))
        y = canvas.clear(gelu_tanh(self.norm_hidden(y, train, valid)))
        y = self.depthwise(y)
        y = gelu_tanh(self.norm_depthwise(y, train, own.valid(y)))
        y = self.pointwise_out(self.gate(y, own))
        return shortcut + self.drop_path(y, deterministic=not training, rngs=rngs)

    def fold_norms(self) -> None:
        """Makes the batch norms part of the layers beside them; for inference alone."""
        self.norm_hidden = fold_after(self.pointwise_in, self.norm_hidden)
        self.norm_in = fold_before(self.norm_in, self.pointwise_in)
        self.norm_depthwise = fold_after(self.depthwise, self.norm_depthwise)


def _mean_pool(x: jax.Array) -> jax.Array:
    """The mean of 2x2 neighbors, zero-padded: `[B, ceil(H / 2), ceil(W / 2), C]`."""

    def pool(x: jax.Array) -> jax.Array:
        x = pad_to_multiple(x, (2, 2))
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        return x.mean((2, 4), dtype=jnp.float32).astype(x.dtype)

    return by_xla(pool, x, split=(split_of(x)[0], None, None, None))


def mbconv_layout(block: MBConv) -> Layout:
    """The entries of timm's checkpoints."""
    if block.shortcut is not None:
        yield from torch.conv1x1(block.shortcut, "shortcut.expand")
    yield from torch.norm(block.norm_in, "pre_norm")
    yield from torch.conv1x1(block.pointwise_in, "conv1_1x1")
    yield from torch.norm(block.norm_hidden, "norm1")
    yield from torch.depthwise(block.depthwise, "conv2_kxk")
    yield from torch.norm(block.norm_depthwise, "norm2")
    yield from torch.conv1x1(block.gate.squeeze, "se.fc1")
    yield from torch.conv1x1(block.gate.excite, "se.fc2")
    yield from torch.conv1x1(block.pointwise_out, "conv3_1x1")
