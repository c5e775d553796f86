"""How the authors' (mmseg's) UPerNet checkpoints name and lay out what our models hold."""

import dataclasses
from collections.abc import Iterator

from flax import nnx

from dwconv_jax.convert.layout import Buffer, Entry, backbone, conv1x1, norm
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.models.dense_backbone import DenseBackbone
from dwconv_jax.models.segmentation.upernet import FCNHead, UPerHead, UPerNet


def upernet(model: UPerNet) -> Iterator[Entry | Buffer]:
    """Every tensor of the PyTorch state dict, in its order."""
    yield from prefixed("backbone", dense_backbone(model.backbone))
    yield from prefixed("decode_head", _uper_head(model.decode_head))
    yield from prefixed("auxiliary_head", _fcn_head(model.auxiliary_head))


def dense_backbone(model: DenseBackbone) -> Iterator[Entry | Buffer]:
    """A backbone and the norms of its outputs; segmentation and detection share the names."""
    yield from backbone(model, image_size=None)
    for i, output_norm in enumerate(model.output_norms):
        yield from norm(output_norm, f"norm{i}")


def prefixed(prefix: str, items: Iterator[Entry | Buffer]) -> Iterator[Entry | Buffer]:
    """The tensors of a part, under its name."""
    return (dataclasses.replace(item, name=f"{prefix}.{item.name}") for item in items)


def _uper_head(head: UPerHead) -> Iterator[Entry | Buffer]:
    yield from conv1x1(head.classifier.linear, "conv_seg")
    for i, level in enumerate(head.pooling.levels):
        yield from conv_norm_act(level, f"psp_modules.{i}.1")
    yield from conv_norm_act(head.pooling.fuse, "bottleneck")
    for i, lateral in enumerate(head.laterals):
        yield from conv_norm_act(lateral, f"lateral_convs.{i}")
    for i, output in enumerate(head.outputs):
        yield from conv_norm_act(output, f"fpn_convs.{i}")
    yield from conv_norm_act(head.fuse, "fpn_bottleneck")


def _fcn_head(head: FCNHead) -> Iterator[Entry | Buffer]:
    yield from conv1x1(head.classifier.linear, "conv_seg")
    yield from conv_norm_act(head.conv, "convs.0")


def conv_norm_act(module: ConvNormAct, name: str) -> Iterator[Entry | Buffer]:
    """A convolution and its batch norm."""
    yield conv(module.conv, f"{name}.conv.weight")
    yield from norm(module.norm, f"{name}.bn")


def conv(module: nnx.Conv, name: str) -> Entry:
    """The kernel of a convolution: `[out, in, h, w]` there, `[h, w, in, out]` here."""
    height, width, features_in, features_out = module.kernel.shape
    return Entry(
        name,
        module.kernel,
        (features_out, features_in, height, width),
        split=module.kernel.shape,
        order=(3, 2, 0, 1),
    )
