"""How the authors' (mmdet's) Cascade Mask R-CNN checkpoints name and lay out what ours hold."""

from collections.abc import Iterator
from typing import Any

from flax import nnx

from dwconv_jax.convert.layout import Buffer, Entry, conv1x1, linear, raw
from dwconv_jax.convert.segmentation import conv, conv_norm_act, dense_backbone, prefixed
from dwconv_jax.models.detection.cascade_mask_rcnn import CascadeMaskRCNN
from dwconv_jax.models.detection.fpn import FeaturePyramid
from dwconv_jax.models.detection.roi_heads import BOX_RESOLUTION, BoxHead, MaskHead
from dwconv_jax.models.detection.rpn import RegionProposalNetwork


def cascade_mask_rcnn(model: CascadeMaskRCNN) -> Iterator[Entry | Buffer]:
    """Every tensor of the PyTorch state dict, in its order."""
    yield from prefixed("backbone", dense_backbone(model.backbone))
    yield from prefixed("neck", _feature_pyramid(model.pyramid))
    yield from prefixed("rpn_head", _proposal_network(model.rpn))
    for i, box_head in enumerate(model.box_heads):
        yield from prefixed(f"roi_head.bbox_head.{i}", _box_head(box_head))
    for i, mask_head in enumerate(model.mask_heads):
        yield from prefixed(f"roi_head.mask_head.{i}", _mask_head(mask_head))


def _feature_pyramid(module: FeaturePyramid) -> Iterator[Entry | Buffer]:
    for i, lateral in enumerate(module.laterals):
        yield from conv1x1(lateral, f"lateral_convs.{i}.conv")
    for i, output in enumerate(module.outputs):
        yield from _conv_with_bias(output, f"fpn_convs.{i}.conv")


def _proposal_network(module: RegionProposalNetwork) -> Iterator[Entry | Buffer]:
    yield from _conv_with_bias(module.conv, "rpn_conv")
    yield from conv1x1(module.objectness, "rpn_cls")
    yield from conv1x1(module.regression, "rpn_reg")


def _box_head(head: BoxHead) -> Iterator[Entry | Buffer]:
    yield from linear(head.classification, "fc_cls")
    yield from linear(head.regression, "fc_reg")
    for i, module in enumerate(head.convs):
        yield from conv_norm_act(module, f"shared_convs.{i}")
    kernel = head.hidden.kernel
    inputs, features = kernel.shape
    # Its inputs are flattened channels first there, last here.
    split = (BOX_RESOLUTION, BOX_RESOLUTION, inputs // BOX_RESOLUTION**2, features)
    yield Entry("shared_fcs.0.weight", kernel, (features, inputs), split, order=(3, 2, 0, 1))
    yield raw(head.hidden.bias, "shared_fcs.0.bias")


def _mask_head(head: MaskHead) -> Iterator[Entry | Buffer]:
    for i, module in enumerate(head.convs):
        yield from _conv_with_bias(module, f"convs.{i}.conv")
    kernel = head.upsample.linear.kernel
    features = kernel.shape[0]
    yield Entry(
        "upsample.weight",
        kernel,
        (features, features, 2, 2),
        split=(features, 2, 2, features),
        order=(0, 3, 1, 2),
    )
    yield raw(head.upsample.bias, "upsample.bias")
    yield from conv1x1(head.logits, "conv_logits")


def _conv_with_bias(module: nnx.Conv, name: str) -> Iterator[Any]:
    yield conv(module, f"{name}.weight")
    yield raw(module.bias, f"{name}.bias")
