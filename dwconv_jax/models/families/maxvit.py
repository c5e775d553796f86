"""MaxViT (Tu et al., 2022): a convolution, then attention in windows and over a grid."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import (
    LayerNorm,
    pointwise,
)
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.convolution import convolve
from dwconv_jax.layers.dense import gelu_tanh
from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.folding import fold_after
from dwconv_jax.layers.initializers import fan_out_init, redraw, torch_init, xavier_uniform
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.blocks.mbconv import EPSILON, MBConv, mbconv_layout
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import SwinBlock, refuse_gate
from dwconv_jax.models.family import Family, TorchLayout, batch_norm
from dwconv_jax.models.torch_attention import check_attention
from dwconv_jax.models.torch_layout import Entry, Layout
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Grid, Window


class MaxViTBlock(nnx.Module):
    """MBConv, attention to the window, attention to a grid over the whole map."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        self.conv = MBConv(spec, rngs=rngs)
        self.near = AttentionBlock(spec, rngs=rngs)
        if spec.mixer.get("connectivity") == "window":
            spec = dataclasses.replace(spec, mixer={**spec.mixer, "connectivity": "grid"})
        self.far = AttentionBlock(spec, rngs=rngs)

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`."""
        own = canvas.strided(self.conv.stride)
        x = own.clear(self.conv(x, train, rngs, canvas))
        return self.far(self.near(x, train, rngs, own), train, rngs, own)


class AttentionBlock(SwinBlock):
    """Swin's block, its GELU approximated by tanh."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        super().__init__(spec, rngs=rngs)
        self.mlp.approximate = True
        for _, layer in nnx.iter_modules(self):
            if isinstance(layer, nnx.Linear):
                redraw(layer.kernel, xavier_uniform, rngs=rngs)


class Stem(nnx.Module):
    """3x3 convolution with stride 2, batch norm, GELU, 3x3 convolution."""

    def __init__(self, config: BackboneConfig, *, features: int, rngs: nnx.Rngs):
        self.stride, self.out_features = config.patch_size, features
        options: dict[str, Any] = dict(
            padding="SAME",
            kernel_init=fan_out_init,
            promote_dtype=keep_input_dtype,
            conv_general_dilated=convolve,
            **config.dtypes,
        )
        self.conv1 = nnx.Conv(
            config.in_channels, features, (3, 3), strides=self.stride, rngs=rngs, **options
        )
        self.norm: Any = batch_norm(features, config, epsilon=EPSILON)
        self.conv2 = nnx.Conv(features, features, (3, 3), rngs=rngs, **options)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / 2), ceil(W / 2), C]`."""
        x = self.conv1(x)
        own = canvas.strided(self.stride)
        return self.conv2(own.clear(gelu_tanh(self.norm(x, train, own.valid(x)))))

    def fold_norms(self) -> None:
        """Makes the batch norm part of the convolution before it; for inference alone."""
        self.norm = fold_after(self.conv1, self.norm)


class PreLogits(nnx.Module):
    """Layer norm, linear, tanh: what the pooled feature passes before the head."""

    def __init__(self, features: int, config: BackboneConfig, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(features, rngs=rngs, **config.dtypes)
        self.fc = pointwise(features, features, rngs=rngs, **config.dtypes)

    def __call__(self, x: jax.Array, train: bool | None = None) -> jax.Array:
        """`[B, C]` to `[B, C]`."""
        del train
        return jnp.tanh(self.fc(self.norm(x)))


def timm_layout(backbone: Backbone, side: int) -> Layout:
    """The entries of timm's checkpoints."""
    del side
    stem = backbone.patch_embed
    yield from torch.conv(stem.conv1, "stem.conv1")
    yield from torch.norm(stem.norm, "stem.norm1")
    yield from torch.conv(stem.conv2, "stem.conv2")
    for i, stage in enumerate(backbone.stages):
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            name = f"stages.{i}.blocks.{j}"
            yield from torch.prefixed(f"{name}.conv", mbconv_layout(block.conv))
            yield from torch.prefixed(f"{name}.attn_block", _attention_layout(block.near, Window))
            yield from torch.prefixed(f"{name}.attn_grid", _attention_layout(block.far, Grid))


def _attention_layout(block: AttentionBlock, kind: type[Window] | type[Grid]) -> Layout:
    """The entries of attention; UserError for a layer that the original does not have."""
    source = check_attention(block.mixer, "attn", kind)
    refuse_gate(block, "attn")
    yield from torch.norm(block.norm_mixer, "norm1")
    yield from torch.linear(source.qkv, "attn.qkv")
    axes: Any = block.mixer.connectivity
    rows, columns = (axis.differences for axis in axes.axis_shapes(1, 1))
    # Relative positions are key minus query there, query minus key here.
    yield Entry(
        "attn.rel_pos.relative_position_bias_table", source.position_bias.table,
        (source.num_heads, rows, columns), split=(rows, columns, source.num_heads),
        order=(2, 0, 1), flipped=(0, 1),
    )  # fmt: skip
    yield from torch.linear(block.mixer.proj, "attn.proj")
    yield from torch.norm(block.norm_mlp, "norm2")
    yield from torch.linear(block.mlp.fc1, "mlp.fc1")
    yield from torch.linear(block.mlp.fc2, "mlp.fc2")


def _top_layout(classifier: Any) -> Layout:
    yield from torch.norm(classifier.neck.norm, "head.norm")
    yield from torch.linear(classifier.neck.fc, "head.pre_logits.fc")
    if classifier.head is not None:
        yield from torch.linear(classifier.head, "head.fc")


_LAYOUTS = {"timm": TorchLayout(timm_layout, _top_layout, re.compile(r"head\."))}


def family(stem_features: int) -> Family:
    """MaxViT with a stem of that width."""
    return Family(
        block=MaxViTBlock,
        stem=functools.partial(Stem, features=stem_features),
        downsample=None,
        strides=(2,),
        norm=None,
        neck=PreLogits,
        head_init=torch_init,
        layouts=_LAYOUTS,
    )


def _variant(
    stem_features: int,
    embed_dim: int,
    depths: tuple[int, ...],
    image_size: int,
    num_params: int,
    gmacs: float,
    accuracy: float | None = None,
    source: str = "authors",
) -> Variant:
    """A size of the network for images of a size: windows and grids grow with them."""
    return Variant(
        family=family(stem_features),
        mixer=dict(connectivity="window", shift=0, dynamic="attention", channels_per_group=32),
        embed_dim=embed_dim,
        depths=depths,
        config=dict(patch_size=2, window_size=image_size // 32),
        image_size=image_size,
        num_params=num_params,
        gmacs=gmacs,
        accuracy=accuracy,
        source=source,
    )


_T, _S = (64, 64, (2, 2, 5, 2)), (64, 96, (2, 2, 5, 2))
_B, _L = (64, 96, (2, 6, 14, 2)), (128, 128, (2, 6, 14, 2))
_XL, _PRETRAINED = (192, 192, (2, 6, 14, 2)), "authors, from ImageNet-21K"

VARIANTS = {
    "maxvit_tiny_tf_224": _variant(*_T, 224, 30_916_528, 5.59, 83.62),
    "maxvit_tiny_tf_384": _variant(*_T, 384, 30_977_008, 17.42, 85.24),
    "maxvit_tiny_tf_512": _variant(*_T, 512, 31_049_584, 33.08, 85.72),
    "maxvit_small_tf_224": _variant(*_S, 224, 68_927_956, 11.64, 84.45),
    "maxvit_small_tf_384": _variant(*_S, 384, 69_018_676, 35.71, 85.74),
    "maxvit_small_tf_512": _variant(*_S, 512, 69_127_540, 66.65, 86.19),
    "maxvit_base_tf_224": _variant(*_B, 224, 119_467_708, 23.96, 84.95),
    "maxvit_base_tf_384": _variant(*_B, 384, 119_653_468, 73.35, 86.34),
    "maxvit_base_tf_512": _variant(*_B, 512, 119_876_380, 136.55, 86.66),
    "maxvit_large_tf_224": _variant(*_L, 224, 211_785_560, 43.57, 85.17),
    "maxvit_large_tf_384": _variant(*_L, 384, 212_033_240, 131.95, 86.40),
    "maxvit_large_tf_512": _variant(*_L, 512, 212_330_456, 242.78, 86.70),
    "maxvit_xlarge_tf_224": _variant(*_XL, 224, 474_951_952, 97.34),
    "maxvit_xlarge_tf_384": _variant(*_XL, 384, 475_323_472, 291.87, 88.51, _PRETRAINED),
    "maxvit_xlarge_tf_512": _variant(*_XL, 512, 475_769_296, 531.19, 88.70, _PRETRAINED),
}

ALIASES: dict[str, str] = {}
