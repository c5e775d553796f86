"""Swin Transformer (Liu et al., 2021): attention in windows, shifted in every second block."""

import dataclasses
import re
from typing import Any

import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.layers import LocallyConnected
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.transformer import TransformerBlock
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_attention import check_attention
from dwconv_jax.models.torch_layout import Buffer, Entry, Layout, linear, norm, patch_embed, raw
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Window


class SwinBlock(TransformerBlock):
    """Layer norm and layer; then layer norm and MLP."""

    def torch_layout(self, name: str, side: int) -> Layout:
        """The block's entries in Swin's checkpoints, with its mask for a map of `side`."""
        yield from seam_mask(self.mixer, side, f"{name}.attn_mask")
        yield from norm(self.norm_mixer, f"{name}.norm1")
        yield from attention_layout(self.mixer, f"{name}.attn")
        yield from norm(self.norm_mlp, f"{name}.norm2")
        yield from linear(self.mlp.fc1, f"{name}.mlp.fc1")
        yield from linear(self.mlp.fc2, f"{name}.mlp.fc2")


def frame_layout(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in Swin's frame: patches, stages of blocks, patch merging."""
    yield from patch_embed(backbone.patch_embed, "patch_embed")
    for i, stage in enumerate(backbone.stages):
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            name = f"layers.{i}.blocks.{j}"
            refuse_gate(block, name)
            yield from block.torch_layout(name, side)
        if stage.merge is not None:
            yield from linear(stage.merge.reduction, f"layers.{i}.downsample.reduction")
            yield from norm(stage.merge.norm, f"layers.{i}.downsample.norm")
        side = -(-side // 2)


_MERGING = re.compile(r"layers\.(\d+)\.downsample")


def timm_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in timm: no buffers, and patch merging starts a stage."""
    del side
    for item in frame_layout(backbone, side=0):
        if isinstance(item, Entry):
            name = _MERGING.sub(lambda match: f"layers.{int(match[1]) + 1}.downsample", item.name)
            yield dataclasses.replace(item, name=name)


def norm_and_fc(classifier: Any) -> Layout:
    """`norm` before the mean over positions, and the head as timm has it."""
    yield from norm(classifier.norm, "norm")
    if classifier.head is not None:
        yield from linear(classifier.head, "head.fc")


def refuse_gate(block: Any, name: str) -> None:
    """UserError for a block with squeeze-excitation, which no checkpoint has."""
    if getattr(block, "gate", None) is not None:
        raise UserError(
            f"{name}: the authors' code has no squeeze-excitation, so there is no PyTorch layout "
            "for squeeze_excitation=True"
        )


def seam_mask(mixer: LocallyConnected, side: int, name: str) -> Layout:
    """What shifted windows add to the logits across the seam of the roll: float32 `[N, Q, K]`."""
    across = mixer.connectivity.across_seam(side, side) if side else None
    if across is not None:
        yield Buffer(name, np.where(across, np.float32(-100), np.float32(0)), checked=False)


def attention_layout(mixer: LocallyConnected, name: str) -> Layout:
    """The entries of attention in windows; UserError for a layer that the authors' code lacks."""
    source = check_attention(mixer, name, Window)
    window: Any = mixer.connectivity
    yield raw(source.position_bias.table, f"{name}.relative_position_bias_table")
    (index,) = Window(window.window_size).relative_positions(*window.window_size)
    yield Buffer(f"{name}.relative_position_index", index, checked=True)
    yield from linear(source.qkv, f"{name}.qkv")
    yield from linear(mixer.proj, f"{name}.proj")


def _attention(*num_heads: int) -> dict[str, Any]:
    return dict(connectivity="window", dynamic="attention", num_heads=num_heads)


FAMILY = Family(
    block=SwinBlock,
    layouts={
        "official": TorchLayout(frame_layout),
        "timm": TorchLayout(timm_body, norm_and_fc),
    },
)

VARIANTS = {
    "swin_tiny": Variant(
        family=FAMILY, mixer=_attention(3, 6, 12, 24), embed_dim=96, depths=(2, 2, 6, 2),
        num_params=28_288_354, gmacs=4.49, accuracy=81.2,
        upernet_params=59_941_862, cascade_mask_rcnn_params=85_629_804,
    ),
    "swin_small": Variant(
        family=FAMILY, mixer=_attention(3, 6, 12, 24), embed_dim=96, depths=(2, 2, 18, 2),
        num_params=49_606_258, gmacs=8.74, accuracy=83.2,
        upernet_params=81_259_766, cascade_mask_rcnn_params=106_947_708,
    ),
    "swin_base": Variant(
        family=FAMILY, mixer=_attention(4, 8, 16, 32), embed_dim=128, depths=(2, 2, 18, 2),
        num_params=87_768_224, gmacs=15.43, accuracy=83.5,
        upernet_params=121_279_716, cascade_mask_rcnn_params=144_977_002,
    ),
    "swin_base_384": Variant(
        family=FAMILY, mixer=_attention(4, 8, 16, 32), embed_dim=128, depths=(2, 2, 18, 2),
        config=dict(window_size=12), image_size=384,
        num_params=87_903_584, gmacs=47.08, accuracy=84.5,
    ),
    "swin_large": Variant(
        family=FAMILY, mixer=_attention(6, 12, 24, 48), embed_dim=192, depths=(2, 2, 18, 2),
        num_params=196_532_476, gmacs=34.48, accuracy=86.3,
        source="authors, from ImageNet-22K",
    ),
    "swin_large_384": Variant(
        family=FAMILY, mixer=_attention(6, 12, 24, 48), embed_dim=192, depths=(2, 2, 18, 2),
        config=dict(window_size=12), image_size=384,
        num_params=196_735_516, gmacs=103.92, accuracy=87.3,
        source="authors, from ImageNet-22K",
    ),
}  # fmt: skip

ALIASES = {
    "swin_tiny_patch4_window7_224": "swin_tiny",
    "swin_small_patch4_window7_224": "swin_small",
    "swin_base_patch4_window7_224": "swin_base",
    "swin_base_patch4_window12_384": "swin_base_384",
    "swin_large_patch4_window7_224": "swin_large",
    "swin_large_patch4_window12_384": "swin_large_384",
}
