"""How the authors' PyTorch classifiers name and lay out what our models hold.

`layout(model)` lists every tensor of the PyTorch state dict beside the variable of ours that it
belongs to. Two facts of the release: it calls channels per group "heads" in i-dynamic models, and
its dynamic weights come channel (group) first, `[G, K]`, where ours are `[K, G]`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import BatchNorm, LocallyConnected, PatchEmbed
from dwconv_jax.layers.weights.relative_position import relative_index, seam_mask
from dwconv_jax.layers.weights.sources import (
    AttentionWeights,
    CentreWeights,
    PooledWeights,
    StaticWeights,
)
from dwconv_jax.models import Backbone, Classifier
from dwconv_jax.models.families.blocks import DWBlock
from dwconv_jax.ops.connectivity import Sliding, Window

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor of the PyTorch state dict and the variable that holds it here.

    The tensor is our array with its axes split, reordered and joined again.
    """

    name: str
    variable: nnx.Variable
    shape: Shape  # of the tensor
    split: Shape  # of our array
    order: Shape  # of the split axes in the tensor

    def read(self) -> np.ndarray:
        """The variable as PyTorch holds it."""
        array = np.asarray(self.variable[...]).reshape(self.split)
        return np.ascontiguousarray(array.transpose(self.order)).reshape(self.shape)

    def write(self, tensor: np.ndarray) -> None:
        """Sets the variable, which may be abstract, to a tensor of `shape`."""
        array = tensor.reshape([self.split[axis] for axis in self.order])
        array = array.transpose(np.argsort(self.order)).reshape(self.variable.shape)
        self.variable.set_value(jnp.asarray(array, self.variable.dtype))


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A constant of the PyTorch state dict that our models compute.

    `checked` buffers must hold `value`; the others depend on the image size of the checkpoint or
    count batches, and are not read.
    """

    name: str
    value: np.ndarray
    checked: bool

    def read(self) -> np.ndarray:
        """The constant."""
        return self.value


def layout(model: Classifier, image_size: int = 224) -> list[Entry | Buffer]:
    """Every tensor of the PyTorch state dict, in its order.

    Args:
      model: a classifier of `create_model` with one of the four named mixers.
      image_size: for Swin's attention masks, which its state dict holds for one image size.

    Raises:
      ValueError: for a mixer that the authors' code does not have.
    """
    return list(_classifier(model, image_size))


def _classifier(model: Classifier, image_size: int) -> Iterator[Entry | Buffer]:
    yield from backbone(model, image_size)
    yield from norm(model.norm, "norm")
    yield from linear(model.head, "head")


def backbone(model: Backbone, image_size: int | None) -> Iterator[Entry | Buffer]:
    """Patch embedding and stages; Swin's attention masks only where an image size is given."""
    side = 0 if image_size is None else -(-image_size // model.patch_embed.patch_size)
    yield from _patch_embed(model.patch_embed, "patch_embed")
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage.blocks):
            name = f"layers.{i}.blocks.{j}"
            _refuse_gate(block, name)
            if isinstance(block, DWBlock):
                yield from dw_block(block, name)
            else:
                yield from swin_block(block, name, side)
        if stage.merge is not None:
            yield from linear(stage.merge.reduction, f"layers.{i}.downsample.reduction")
            yield from norm(stage.merge.norm, f"layers.{i}.downsample.norm")
        side = -(-side // 2)


def _refuse_gate(block: Any, name: str) -> None:
    if block.gate is not None:
        raise UserError(
            f"{name}: the authors' code has no squeeze-excitation, so there is no PyTorch layout "
            "for squeeze_excitation=True"
        )


def dw_block(block: DWBlock, name: str) -> Iterator[Entry | Buffer]:
    """The part of the layout that belongs to a block of the DWNet family."""
    inner = f"{name}.attn2conv"
    yield from conv1x1(block.pointwise_in, f"{inner}.conv0")
    yield from norm(block.norm_in, f"{inner}.bn0")
    yield from depthwise_conv(block.mixer, f"{inner}.conv")
    yield from norm(block.norm_mixer, f"{inner}.bn")
    yield from conv1x1(block.pointwise_out, f"{inner}.conv2")
    yield from norm(block.norm_out, f"{inner}.bn2")
    yield from linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from linear(block.mlp.fc2, f"{name}.mlp.fc2")
    yield from norm(block.norm_mlp, f"{name}.bn")


def swin_block(block: Any, name: str, side: int) -> Iterator[Entry | Buffer]:
    """The part of the layout that belongs to a Swin block on a square map."""
    window = block.mixer.connectivity
    if isinstance(window, Window) and any(window.shift) and side > max(window.window_size):
        yield Buffer(f"{name}.attn_mask", seam_mask(window, side, side), checked=False)
    yield from norm(block.norm_mixer, f"{name}.norm1")
    yield from window_attention(block.mixer, f"{name}.attn")
    yield from norm(block.norm_mlp, f"{name}.norm2")
    yield from linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from linear(block.mlp.fc2, f"{name}.mlp.fc2")


def window_attention(mixer: LocallyConnected, name: str) -> Iterator[Entry | Buffer]:
    """Local attention's part of the layout."""
    source, window = mixer.source, mixer.connectivity
    if not isinstance(source, AttentionWeights) or not isinstance(window, Window):
        raise UserError(_unknown(mixer, name))
    yield raw(source.position_bias.table, f"{name}.relative_position_bias_table")
    index = relative_index(window.window_size, window.window_size)
    yield Buffer(f"{name}.relative_position_index", index, checked=True)
    yield from linear(source.qkv, f"{name}.qkv")
    yield from linear(mixer.proj, f"{name}.proj")


def depthwise_conv(mixer: LocallyConnected, name: str) -> Iterator[Entry | Buffer]:
    """A depth-wise convolution's part of the layout: static, dynamic or i-dynamic."""
    connectivity = mixer.connectivity
    if not isinstance(connectivity, Sliding) or connectivity.dilation != (1, 1):
        raise UserError(_unknown(mixer, name))
    match mixer.source:
        case StaticWeights(kernel=kernel) if kernel.shape[::3] == (1, mixer.features):
            shape = (mixer.features, 1, *connectivity.kernel_size)
            yield _reversed(kernel, f"{name}.weight", kernel.shape[2:], shape)
            yield raw(mixer.bias, f"{name}.bias")
        case PooledWeights(shape=(1, 1, taps, mixer.features)) as source:
            yield raw(mixer.bias, f"{name}.bias")
            yield from conv1x1(source.squeeze, f"{name}.conv1")
            yield from norm(source.norm, f"{name}.bn")
            yield from _prediction(source.predict, (taps, mixer.features), f"{name}.conv2")
        case CentreWeights() as source:
            yield from conv1x1(source.squeeze, f"{name}.conv1.0")
            yield from norm(source.norm, f"{name}.conv1.1")
            yield from _prediction(source.predict, source.shape, f"{name}.conv2.0")
        case _:
            raise UserError(_unknown(mixer, name))


def _unknown(mixer: Any, name: str) -> str:
    return (
        f"{name}: the authors' code has no layer with dynamic={mixer.dynamic!r} weights over "
        f"{mixer.connectivity}, so there is no PyTorch layout for it"
    )


def raw(variable: Any, name: str) -> Entry:
    """A variable that both hold in the same way."""
    shape = variable.shape
    return Entry(name, variable, shape, split=shape, order=tuple(range(len(shape))))


def _reversed(variable: Any, name: str, split: Shape, shape: Shape) -> Entry:
    """PyTorch puts outputs first where JAX puts them last."""
    return Entry(name, variable, shape, split, order=tuple(reversed(range(len(split)))))


def linear(module: Any, name: str, kernel_size: Shape = ()) -> Iterator[Entry]:
    """A linear layer, or a convolution of `kernel_size` (1, 1)."""
    features_in, features_out = module.kernel.shape
    shape = (features_out, features_in, *kernel_size)
    yield _reversed(module.kernel, f"{name}.weight", module.kernel.shape, shape)
    if module.bias is not None:
        yield raw(module.bias, f"{name}.bias")


def conv1x1(module: nnx.Linear, name: str) -> Iterator[Entry]:
    """A linear layer that is a 1x1 convolution there."""
    yield from linear(module, name, kernel_size=(1, 1))


def _prediction(module: nnx.Linear, taps_and_groups: Shape, name: str) -> Iterator[Entry]:
    """The 1x1 convolution that predicts weights: its outputs are `[G, K]` there, `[K, G]` here."""
    features_in, features_out = module.kernel.shape
    split = (features_in, *taps_and_groups)
    yield _reversed(module.kernel, f"{name}.weight", split, (features_out, features_in, 1, 1))
    yield _reversed(module.bias, f"{name}.bias", taps_and_groups, (features_out,))


def _patch_embed(module: PatchEmbed, name: str) -> Iterator[Entry | Buffer]:
    p = module.patch_size
    inputs, features = module.proj.kernel.shape
    split = (p, p, inputs // p**2, features)
    shape = (features, inputs // p**2, p, p)
    yield Entry(f"{name}.proj.weight", module.proj.kernel, shape, split, order=(3, 2, 0, 1))
    yield raw(module.proj.bias, f"{name}.proj.bias")
    yield from norm(module.norm, f"{name}.norm")


def norm(module: nnx.LayerNorm | BatchNorm, name: str) -> Iterator[Entry | Buffer]:
    """Scale and bias, and the running statistics of a batch norm."""
    yield raw(module.scale, f"{name}.weight")
    yield raw(module.bias, f"{name}.bias")
    if isinstance(module, BatchNorm):
        yield raw(module.mean, f"{name}.running_mean")
        yield raw(module.var, f"{name}.running_var")
        yield Buffer(f"{name}.num_batches_tracked", np.array(0, np.int64), checked=False)
