"""How the authors' PyTorch classifiers name and lay out what our models hold.

`layout(model)` lists every tensor of the PyTorch state dict beside the variable of ours that it
belongs to. Two facts of the release: it calls channels per group "heads" in i-dynamic models, and
its dynamic weights come channel (group) first, `[G, K]`, where ours are `[K, G]`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from flax import nnx

from dwconv_jax.layers import BatchNorm, PatchEmbed
from dwconv_jax.layers.relative_position import relative_index, seam_mask
from dwconv_jax.layers.weight_sources import AttentionWeights, CentreWeights, PooledWeights
from dwconv_jax.models import Classifier
from dwconv_jax.models.blocks import DWBlock, SwinBlock
from dwconv_jax.ops.connectivity import Window

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor of the PyTorch state dict and the variable that holds it here."""

    name: str
    variable: nnx.Variable
    shape: tuple[int, ...]  # of the PyTorch tensor
    to_torch: Callable[[Array], Array]
    from_torch: Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A constant of the PyTorch state dict that our models compute.

    `checked` buffers must hold `value`; the others depend on the image size of the checkpoint or
    count batches, and are not read.
    """

    name: str
    value: Array
    checked: bool


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
    side = -(-image_size // model.patch_embed.patch_size)
    yield from _patch_embed(model.patch_embed, "patch_embed.proj")
    yield from _norm(model.patch_embed.norm, "patch_embed.norm")
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage.blocks):
            name = f"layers.{i}.blocks.{j}"
            if isinstance(block, DWBlock):
                yield from _dw_block(block, name)
            else:
                yield from _swin_block(block, name, side)
        if stage.merge is not None:
            yield from _linear(stage.merge.reduction, f"layers.{i}.downsample.reduction")
            yield from _norm(stage.merge.norm, f"layers.{i}.downsample.norm")
        side = -(-side // 2)
    yield from _norm(model.norm, "norm")
    yield from _linear(model.head, "head")


def _dw_block(block: DWBlock, name: str) -> Iterator[Entry | Buffer]:
    inner = f"{name}.attn2conv"
    yield from _conv1x1(block.pointwise_in, f"{inner}.conv0")
    yield from _norm(block.norm_in, f"{inner}.bn0")
    yield from _sliding_mixer(block.mixer, f"{inner}.conv")
    yield from _norm(block.norm_mixer, f"{inner}.bn")
    yield from _conv1x1(block.pointwise_out, f"{inner}.conv2")
    yield from _norm(block.norm_out, f"{inner}.bn2")
    yield from _linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from _linear(block.mlp.fc2, f"{name}.mlp.fc2")
    yield from _norm(block.norm_mlp, f"{name}.bn")


def _swin_block(block: SwinBlock, name: str, side: int) -> Iterator[Entry | Buffer]:
    source = block.mixer.source
    window = block.mixer.connectivity
    if not isinstance(source, AttentionWeights) or not isinstance(window, Window):
        raise ValueError(_unknown(block.mixer, name))
    if any(window.shift) and side > max(window.window_size):
        yield Buffer(f"{name}.attn_mask", seam_mask(window, side, side), checked=False)
    yield from _norm(block.norm_mixer, f"{name}.norm1")
    yield _raw(source.position_bias.table, f"{name}.attn.relative_position_bias_table")
    index = relative_index(window.window_size, window.window_size)
    yield Buffer(f"{name}.attn.relative_position_index", index, checked=True)
    yield from _linear(source.qkv, f"{name}.attn.qkv")
    yield from _linear(block.mixer.proj, f"{name}.attn.proj")
    yield from _norm(block.norm_mlp, f"{name}.norm2")
    yield from _linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from _linear(block.mlp.fc2, f"{name}.mlp.fc2")


def _sliding_mixer(mixer: Any, name: str) -> Iterator[Entry | Buffer]:
    source, kernel_size = mixer.source, getattr(mixer.connectivity, "kernel_size", None)
    if kernel_size is None or mixer.dynamic == "attention":
        raise ValueError(_unknown(mixer, name))
    if isinstance(source, CentreWeights):
        yield from _conv1x1(source.squeeze, f"{name}.conv1.0")
        yield from _norm(source.norm, f"{name}.conv1.1")
        yield from _prediction(source.predict, source.shape, f"{name}.conv2.0")
        return
    yield _raw(mixer.bias, f"{name}.bias")
    if isinstance(source, PooledWeights):
        yield from _conv1x1(source.squeeze, f"{name}.conv1")
        yield from _norm(source.norm, f"{name}.bn")
        yield from _prediction(source.predict, source.shape[-2:], f"{name}.conv2")
        return
    blocks, _, taps, groups = source.kernel.shape
    if blocks != 1 or groups != mixer.features:
        raise ValueError(_unknown(mixer, name))
    yield Entry(
        f"{name}.weight",
        source.kernel,
        (groups, 1, *kernel_size),
        to_torch=lambda w: w[0, 0].T.reshape(groups, 1, *kernel_size),
        from_torch=lambda w: w.reshape(groups, taps).T[None, None],
    )


def _unknown(mixer: Any, name: str) -> str:
    return (
        f"{name}: the authors' code has no layer with dynamic={mixer.dynamic!r} weights over "
        f"{mixer.connectivity}, so there is no PyTorch layout for it"
    )


def _raw(variable: nnx.Variable, name: str) -> Entry:
    return Entry(name, variable, variable.shape, to_torch=lambda w: w, from_torch=lambda w: w)


def _linear(module: nnx.Linear, name: str) -> Iterator[Entry]:
    features_in, features_out = module.kernel.shape
    shape = (features_out, features_in)
    yield Entry(f"{name}.weight", module.kernel, shape, lambda w: w.T, lambda w: w.T)
    if module.bias is not None:
        yield _raw(module.bias, f"{name}.bias")


def _conv1x1(module: nnx.Linear, name: str) -> Iterator[Entry]:
    features_in, features_out = module.kernel.shape
    yield Entry(
        f"{name}.weight",
        module.kernel,
        (features_out, features_in, 1, 1),
        to_torch=lambda w: w.T[:, :, None, None],
        from_torch=lambda w: w[:, :, 0, 0].T,
    )
    if module.bias is not None:
        yield _raw(module.bias, f"{name}.bias")


def _prediction(module: nnx.Linear, taps_and_groups: tuple[int, ...], name: str) -> Iterator[Entry]:
    """The 1x1 convolution that predicts weights: its outputs are `[G, K]` there, `[K, G]` here."""
    taps, groups = taps_and_groups
    hidden = module.kernel.shape[0]
    yield Entry(
        f"{name}.weight",
        module.kernel,
        (groups * taps, hidden, 1, 1),
        to_torch=lambda w: (
            w.reshape(hidden, taps, groups).transpose(2, 1, 0).reshape(groups * taps, hidden, 1, 1)
        ),
        from_torch=lambda w: (
            w.reshape(groups, taps, hidden).transpose(2, 1, 0).reshape(hidden, taps * groups)
        ),
    )
    yield Entry(
        f"{name}.bias",
        module.bias,
        (groups * taps,),
        to_torch=lambda b: b.reshape(taps, groups).T.reshape(-1),
        from_torch=lambda b: b.reshape(groups, taps).T.reshape(-1),
    )


def _patch_embed(module: PatchEmbed, name: str) -> Iterator[Entry]:
    p = module.patch_size
    inputs, features = module.proj.kernel.shape
    channels = inputs // p**2
    yield Entry(
        f"{name}.weight",
        module.proj.kernel,
        (features, channels, p, p),
        to_torch=lambda w: w.reshape(p, p, channels, features).transpose(3, 2, 0, 1),
        from_torch=lambda w: w.transpose(2, 3, 1, 0).reshape(inputs, features),
    )
    yield _raw(module.proj.bias, f"{name}.bias")


def _norm(module: nnx.LayerNorm | BatchNorm, name: str) -> Iterator[Entry | Buffer]:
    yield _raw(module.scale, f"{name}.weight")
    yield _raw(module.bias, f"{name}.bias")
    if isinstance(module, BatchNorm):
        yield _raw(module.mean, f"{name}.running_mean")
        yield _raw(module.var, f"{name}.running_var")
        yield Buffer(f"{name}.num_batches_tracked", np.array(0, np.int64), checked=False)
