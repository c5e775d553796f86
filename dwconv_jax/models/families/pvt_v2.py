"""PVT v2 (Wang et al., 2022): every position attends to the whole map, pooled."""

import dataclasses
import functools
import re
from typing import Any

import jax
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import DepthwiseConv, LayerNorm
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.dense import gelu
from dwconv_jax.layers.initializers import fan_out_init, normal, redraw, zeros
from dwconv_jax.layers.overlapping_patches import OverlappingPatches
from dwconv_jax.layers.pooled_attention import PooledAttention
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.blocks.transformer import TransformerBlock
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import refuse_gate
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_layout import Layout, renamed
from dwconv_jax.models.variant import Variant


class PVTBlock(TransformerBlock):
    """Layer norm and attention; then layer norm and an MLP with a depth-wise convolution inside."""

    def __init__(self, spec: BlockSpec, *, linear_attention: bool = False, rngs: nnx.Rngs):
        flags = dict(spec.mixer)
        mixer = None
        if (flags["connectivity"], flags["dynamic"]) == ("global", "attention"):
            mixer = PooledAttention(
                spec.features,
                flags["groups"],
                stride=flags.get("stride", 1),
                linear_attention=linear_attention,
                rngs=rngs,
                **spec.dtypes,
            )
        self.linear_attention = linear_attention
        super().__init__(spec, mixer=mixer, epsilon=1e-6, rngs=rngs)

    def make_mlp(self, spec: BlockSpec, rngs: nnx.Rngs) -> Any:
        """The MLP, with its convolution."""
        mlp = spec.make_mlp(rngs)
        depthwise = DepthwiseConv(mlp.fc1.out_features, 3, rngs=rngs, **spec.dtypes)
        redraw(depthwise.kernel, normal((2 / 9) ** 0.5), rngs=rngs)
        redraw(depthwise.bias, zeros, rngs=rngs)
        self.depthwise = depthwise
        return mlp

    def feed_forward(self, x: jax.Array, canvas: Canvas) -> jax.Array:
        """Linear, depth-wise 3x3, GELU, linear; with linear attention a ReLU after the first."""
        hidden = self.mlp.fc1(x)
        hidden = canvas.clear(jax.nn.relu(hidden) if self.linear_attention else hidden)
        return self.mlp.fc2(gelu(self.depthwise(hidden)))


def stem(config: BackboneConfig, *, rngs: nnx.Rngs) -> OverlappingPatches:
    """7x7 with stride 4."""
    inputs, features, stride = config.in_channels, config.widths[0], config.patch_size
    return _patches(inputs, features, 7, stride, config, rngs)


def downsample(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> OverlappingPatches:
    """3x3 with stride 2."""
    return _patches(features, out_features, 3, 2, config, rngs)


def _patches(
    in_features: int,
    features: int,
    kernel_size: int,
    stride: int,
    config: BackboneConfig,
    rngs: nnx.Rngs,
) -> OverlappingPatches:
    """Initialized as the original."""
    patches = OverlappingPatches(
        in_features, features, kernel_size, stride=stride, rngs=rngs, **config.dtypes
    )
    redraw(patches.conv.kernel, fan_out_init, rngs=rngs)
    redraw(patches.conv.bias, zeros, rngs=rngs)
    return patches


def stage_norm(features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> LayerNorm:
    """Layer norm with the blocks' epsilon."""
    return LayerNorm(features, epsilon=1e-6, rngs=rngs, **config.dtypes)


def timm_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in timm."""
    del side
    embed, name = backbone.patch_embed, "patch_embed"
    for i, stage in enumerate(backbone.stages):
        yield from torch.conv(embed.conv, f"{name}.proj")
        yield from torch.norm(embed.norm, f"{name}.norm")
        embed, name = stage.merge, f"stages.{i + 1}.downsample"
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            yield from _block_layout(block, f"stages.{i}.blocks.{j}")
        yield from torch.norm(stage.norm, f"stages.{i}.norm")


def _block_layout(block: PVTBlock, name: str) -> Layout:
    refuse_gate(block, name)
    yield from torch.norm(block.norm_mixer, f"{name}.norm1")
    yield from _attention_layout(block.mixer, f"{name}.attn")
    yield from torch.norm(block.norm_mlp, f"{name}.norm2")
    yield from torch.linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from torch.depthwise(block.depthwise, f"{name}.mlp.dwconv")
    yield from torch.linear(block.mlp.fc2, f"{name}.mlp.fc2")


def _attention_layout(mixer: Any, name: str) -> Layout:
    if not isinstance(mixer, PooledAttention):
        raise UserError(
            f"{name}: the original attends to a pooled map here, so there is no PyTorch layout for "
            f"dynamic={mixer.dynamic!r} weights over {mixer.connectivity}"
        )
    yield from torch.linear(mixer.q, f"{name}.q")
    yield from torch.linear(mixer.kv, f"{name}.kv")
    yield from torch.linear(mixer.proj, f"{name}.proj")
    if mixer.pool is not None:
        size = 1 if mixer.linear_attention else mixer.stride
        yield from torch.patches(mixer.pool, f"{name}.sr", size)
        yield from torch.norm(mixer.norm, f"{name}.norm")


def timm_top(classifier: Any) -> Layout:
    """The head, in timm as in the authors' code."""
    if classifier.head is not None:
        yield from torch.linear(classifier.head, "head")


def official_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in the authors' code, which counts from 1."""
    for entry in renamed(timm_body(backbone, side), [(r"\.dwconv\.", ".dwconv.dwconv.")]):
        name = entry.name.replace("patch_embed.", "stages.0.downsample.")
        _, stage, part, rest = name.split(".", 3)
        part = {"downsample": "patch_embed", "blocks": "block", "norm": "norm"}[part]
        yield dataclasses.replace(entry, name=f"{part}{int(stage) + 1}.{rest}")


def _family(*, linear_attention: bool) -> Family:
    top_names = re.compile(r"head\.")
    return Family(
        block=functools.partial(PVTBlock, linear_attention=linear_attention),
        stem=stem,
        downsample=downsample,
        stage_norm=stage_norm,
        output_norm=None,
        norm=None,
        layouts={
            "timm": TorchLayout(timm_body, timm_top, top_names),
            "official": TorchLayout(official_body, timm_top, top_names),
        },
    )


_POOLED, _LINEAR = _family(linear_attention=False), _family(linear_attention=True)


def _variant(
    depths: tuple[int, ...],
    *known: Any,
    family: Family = _POOLED,
    embed_dim: tuple[int, ...] = (64, 128, 320, 512),
    mlp_ratio: Any = (8, 8, 4, 4),
) -> Variant:
    num_params, gmacs, accuracy = known
    mixer = dict(
        connectivity="global", dynamic="attention", num_heads=(1, 2, 5, 8), stride=(8, 4, 2, 1),
        attention=dict(position_bias=None),
    )  # fmt: skip
    return Variant(
        family=family, mixer=mixer, embed_dim=embed_dim, depths=depths,
        config=dict(mlp_ratio=mlp_ratio), num_params=num_params, gmacs=gmacs, accuracy=accuracy,
    )  # fmt: skip


VARIANTS = {
    "pvt_v2_b0": _variant((2, 2, 2, 2), 3_666_760, 0.57, 70.5, embed_dim=(32, 64, 160, 256)),
    "pvt_v2_b1": _variant((2, 2, 2, 2), 14_009_000, 2.11, 78.7),
    "pvt_v2_b2": _variant((3, 4, 6, 3), 25_362_856, 4.03, 82.0),
    "pvt_v2_b2_li": _variant((3, 4, 6, 3), 22_553_512, 3.9, 82.1, family=_LINEAR),
    "pvt_v2_b3": _variant((3, 4, 18, 3), 45_238_696, 6.9, 83.1),
    "pvt_v2_b4": _variant((3, 8, 27, 3), 62_556_072, 10.1, 83.6),
    "pvt_v2_b5": _variant((3, 6, 40, 3), 81_956_008, 11.72, 83.8, mlp_ratio=4),
}

ALIASES: dict[str, str] = {}
