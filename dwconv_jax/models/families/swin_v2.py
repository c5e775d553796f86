"""Swin Transformer V2 (Liu et al., 2022): cosine attention in shifted windows, norms last."""

from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers import LayerNorm, LocallyConnected, linear
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.initializers import zeros
from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.patches import merge_neighbors
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec, DropPath, on_padded
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import norm_and_fc, refuse_gate, seam_mask
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_attention import check_attention
from dwconv_jax.models.torch_layout import Buffer, Layout
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Window


class SwinV2Block(nnx.Module):
    """Layer, then layer norm; MLP, then layer norm. The norms start at zero.

    A squeeze-excitation gate, where there is one, follows the layer.
    """

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        self.mixer = spec.make_mixer(rngs)
        self.gate = spec.make_gate(rngs)
        self.norm_mixer = LayerNorm(spec.features, scale_init=zeros, rngs=rngs, **spec.dtypes)
        self.mlp = spec.make_mlp(rngs)
        self.norm_mlp = LayerNorm(spec.features, scale_init=zeros, rngs=rngs, **spec.dtypes)
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)
        self.map_multiple = spec.map_multiple

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        training = is_training(train, self.drop_path.deterministic)
        y = on_padded(self.mixer, x, train, canvas, self.map_multiple)
        y = y if self.gate is None else self.gate(y, canvas)
        x = x + self.drop_path(self.norm_mixer(y), deterministic=not training, rngs=rngs)
        y = self.norm_mlp(self.mlp(x))
        return x + self.drop_path(y, deterministic=not training, rngs=rngs)


class PatchMergingV2(nnx.Module):
    """Swin's patch merging with its layer norm last."""

    def __init__(self, features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs):
        self.reduction = linear(
            4 * features, out_features, use_bias=False, rngs=rngs, **config.dtypes
        )
        self.norm = LayerNorm(out_features, rngs=rngs, **config.dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), out_features]`."""
        del train, canvas
        return self.norm(self.reduction(merge_neighbors(x)))


def timm_layout(backbone: Backbone, side: int) -> Layout:
    """The entries of timm's checkpoints, where a stage starts with patch merging."""
    del side
    yield from torch.patch_embed(backbone.patch_embed, "patch_embed")
    merge = None
    for i, stage in enumerate(backbone.stages):
        yield from _merging_layout(merge, f"layers.{i}.downsample")
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            name = f"layers.{i}.blocks.{j}"
            refuse_gate(block, name)
            yield from _attention_layout(block.mixer, f"{name}.attn")
            yield from torch.norm(block.norm_mixer, f"{name}.norm1")
            yield from _mlp_layout(block, name)
            yield from torch.norm(block.norm_mlp, f"{name}.norm2")
        merge = stage.merge


def official_layout(backbone: Backbone, side: int) -> Layout:
    """The entries of the authors' checkpoints, which hold what the windows make of a map."""
    yield from torch.patch_embed(backbone.patch_embed, "patch_embed")
    for i, stage in enumerate(backbone.stages):
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            name = f"layers.{i}.blocks.{j}"
            refuse_gate(block, name)
            yield from seam_mask(block.mixer, side, f"{name}.attn_mask")
            yield from torch.norm(block.norm_mixer, f"{name}.norm1")
            yield from _attention_layout(block.mixer, f"{name}.attn")
            yield from _window_buffers(block.mixer, side, f"{name}.attn")
            yield from torch.norm(block.norm_mlp, f"{name}.norm2")
            yield from _mlp_layout(block, name)
        yield from _merging_layout(stage.merge, f"layers.{i}.downsample")
        side = -(-side // 2)


def _attention_layout(mixer: LocallyConnected, name: str) -> Layout:
    """The entries of cosine attention; UserError for a layer that the authors' code lacks."""
    source = check_attention(mixer, name, Window, position_bias="mlp", cosine=True, qkv_bias="qv")
    heads = source.num_heads
    scale: Any = source.logit_scale
    yield torch.transposed(scale, f"{name}.logit_scale", (1, 1, heads), (heads, 1, 1))
    yield torch.raw(source.q_bias, f"{name}.q_bias")
    yield torch.raw(source.v_bias, f"{name}.v_bias")
    yield from torch.linear(source.position_bias.fc1, f"{name}.cpb_mlp.0")
    yield from torch.linear(source.position_bias.fc2, f"{name}.cpb_mlp.2")
    yield from torch.linear(source.qkv, f"{name}.qkv")
    yield from torch.linear(mixer.proj, f"{name}.proj")


def _window_buffers(mixer: LocallyConnected, side: int, name: str) -> Layout:
    """What the authors' code stores of a window, as small as a map of `side` makes it."""
    window: Any = mixer.connectivity
    size = tuple(cut.length for cut in window.cuts(side, side)) if side else window.window_size
    (index,) = Window(size).relative_positions(*size)
    table = mixer.source.position_bias.coordinates(Window(size), size)
    table = table.reshape(1, *(2 * n - 1 for n in size), len(size))
    yield Buffer(f"{name}.relative_coords_table", table, checked=False)
    yield Buffer(f"{name}.relative_position_index", index, checked=True)


def _mlp_layout(block: Any, name: str) -> Layout:
    yield from torch.linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from torch.linear(block.mlp.fc2, f"{name}.mlp.fc2")


def _merging_layout(merge: PatchMergingV2 | None, name: str) -> Layout:
    if merge is not None:
        yield from torch.linear(merge.reduction, f"{name}.reduction")
        yield from torch.norm(merge.norm, f"{name}.norm")


_OWN = dict(position_bias="mlp", cosine=True, qkv_bias="qv")
_PRETRAINED = tuple(_OWN | dict(pretrained_window=window) for window in (12, 12, 12, 6))

FAMILY = Family(
    block=SwinV2Block,
    downsample=PatchMergingV2,
    layouts={
        "timm": TorchLayout(timm_layout, norm_and_fc),
        "official": TorchLayout(official_layout),
    },
)


_T: dict[str, Any] = dict(
    num_heads=(3, 6, 12, 24), embed_dim=96, depths=(2, 2, 6, 2), num_params=28_347_154
)
_S = _T | dict(depths=(2, 2, 18, 2), num_params=49_728_418)
_B = _S | dict(num_heads=(4, 8, 16, 32), embed_dim=128, num_params=87_918_816)
_L = _S | dict(num_heads=(6, 12, 24, 48), embed_dim=192, num_params=196_739_932)


def _variant(
    row: dict[str, Any], window_size: int, image_size: int, *, attention: Any = _OWN, **known: Any
) -> Variant:
    """A size of the network, for windows and images of a size."""
    num_heads = row["num_heads"]
    return Variant(
        family=FAMILY,
        mixer=dict(
            connectivity="window", dynamic="attention", num_heads=num_heads, attention=attention
        ),
        config=dict(window_size=window_size),
        image_size=image_size,
        source="authors, from ImageNet-22K" if attention is _PRETRAINED else "authors",
        **{name: value for name, value in row.items() if name != "num_heads"},
        **known,
    )


VARIANTS = {
    "swinv2_tiny_window8_256": _variant(_T, 8, 256, gmacs=5.94, accuracy=81.8),
    "swinv2_tiny_window16_256": _variant(_T, 16, 256, gmacs=6.68, accuracy=82.8),
    "swinv2_small_window8_256": _variant(_S, 8, 256, gmacs=11.55, accuracy=83.7),
    "swinv2_small_window16_256": _variant(_S, 16, 256, gmacs=12.8, accuracy=84.1),
    "swinv2_base_window8_256": _variant(_B, 8, 256, gmacs=20.33, accuracy=84.2),
    "swinv2_base_window16_256": _variant(_B, 16, 256, gmacs=21.99, accuracy=84.6),
    "swinv2_base_window12_192": _variant(_B, 12, 192, gmacs=11.87),
    "swinv2_base_window12to16_192to256": _variant(
        _B, 16, 256, attention=_PRETRAINED, gmacs=21.99, accuracy=86.2
    ),
    "swinv2_base_window12to24_192to384": _variant(
        _B, 24, 384, attention=_PRETRAINED, gmacs=55.21, accuracy=87.1
    ),
    "swinv2_large_window12_192": _variant(_L, 12, 192, gmacs=26.12),
    "swinv2_large_window12to16_192to256": _variant(
        _L, 16, 256, attention=_PRETRAINED, gmacs=47.78, accuracy=86.9
    ),
    "swinv2_large_window12to24_192to384": _variant(
        _L, 24, 384, attention=_PRETRAINED, gmacs=116.08, accuracy=87.6
    ),
}

ALIASES: dict[str, str] = {}
