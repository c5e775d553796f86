"""ConvNeXt (Liu et al., 2022) and ConvNeXt V2 (Woo et al., 2023): static 7x7 kernels."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import LayerNorm, linear
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import gelu
from dwconv_jax.layers.initializers import full, linear_init
from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.patches import cut_patches
from dwconv_jax.layers.weights import StaticWeights
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec, DropPath, on_padded
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import refuse_gate
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_layout import Entry, Layout, depthwise, norm, patches, raw, renamed
from dwconv_jax.models.torch_layout import linear as linear_layout
from dwconv_jax.models.variant import Variant


class ConvNeXtBlock(nnx.Module):
    """Layer, layer norm, MLP; a squeeze-excitation gate, where there is one, follows the layer.

    V1 scales each channel of the result. V2 normalizes the responses of the hidden channels.
    """

    def __init__(self, spec: BlockSpec, *, response_norm: bool = False, rngs: nnx.Rngs):
        param_dtype = spec.config.param_dtype
        self.mixer = spec.make_mixer(rngs)
        if isinstance(self.mixer.source, StaticWeights):
            kernel = self.mixer.source.kernel
            kernel.set_value(linear_init(rngs.params(), kernel.shape, param_dtype))
            self.mixer.bias = nnx.Param(full(spec.features, 0, param_dtype))
        self.gate = spec.make_gate(rngs)
        self.norm = layer_norm(spec.features, spec.config, rngs=rngs)
        self.mlp = spec.make_mlp(rngs)
        hidden, scale = self.mlp.fc1.out_features, full(spec.features, 1e-6, param_dtype)
        self.response_norm = nnx.data(ResponseNorm(hidden, param_dtype) if response_norm else None)
        self.layer_scale = nnx.data(None if response_norm else nnx.Param(scale))
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)
        self.map_multiple = spec.map_multiple

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        training = is_training(train, self.drop_path.deterministic)
        y = on_padded(self.mixer, x, train, canvas, self.map_multiple)
        y = y if self.gate is None else self.gate(y, canvas)
        y = gelu(self.mlp.fc1(self.norm(y)))
        y = self.mlp.fc2(y if self.response_norm is None else self.response_norm(y, canvas))
        if self.layer_scale is not None:
            y = y * self.layer_scale[...].astype(y.dtype)[None, None, None]
        return x + self.drop_path(y, deterministic=not training, rngs=rngs)


class ResponseNorm(nnx.Module):
    """Global response normalization: channels compete by their norms over the map (V2)."""

    def __init__(self, features: int, param_dtype: Any):
        self.scale = nnx.Param(full(features, 0, param_dtype))
        self.bias = nnx.Param(full(features, 0, param_dtype))

    def __call__(self, x: jax.Array, canvas: Canvas = WHOLE) -> jax.Array:
        """`[B, H, W, C]` to the same, in its dtype; computes in float32."""
        y = x.astype(jnp.float32)
        squares = jnp.square(canvas.clear(y)).sum((1, 2), keepdims=True)
        # A channel that is 0 everywhere has no gradient, as in PyTorch.
        response = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
        response /= response.mean(-1, keepdims=True) + 1e-6
        scale, bias = (jnp.float32(p[...])[None, None, None] for p in (self.scale, self.bias))
        return (y + scale * y * response + bias).astype(x.dtype)


class Patches(nnx.Module):
    """A convolution whose stride is its kernel size, with a layer norm before or after it.

    What does not fill a patch is left out, except that a map within a patch is zero-padded.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        size: int,
        config: BackboneConfig,
        *,
        norm_first: bool,
        rngs: nnx.Rngs,
    ):
        self.size, self.norm_first = size, norm_first
        self.norm = layer_norm(in_features if norm_first else features, config, rngs=rngs)
        self.proj = linear(size**2 * in_features, features, rngs=rngs, **config.dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, H // size, W // size, C]`."""
        del train, canvas
        x = self.norm(x) if self.norm_first else x
        rows, cols = (max(side // self.size, 1) * self.size for side in x.shape[1:3])
        x = self.proj(cut_patches(x[:, :rows, :cols], self.size))
        return x if self.norm_first else self.norm(x)


def stem(config: BackboneConfig, *, rngs: nnx.Rngs) -> Patches:
    """Patches of 4x4, then layer norm."""
    inputs, features, size = config.in_channels, config.widths[0], config.patch_size
    return Patches(inputs, features, size, config, norm_first=False, rngs=rngs)


def downsample(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> Patches:
    """Layer norm, then patches of 2x2."""
    return Patches(features, out_features, 2, config, norm_first=True, rngs=rngs)


def layer_norm(features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> LayerNorm:
    """Layer norm with ConvNeXt's epsilon."""
    return LayerNorm(features, epsilon=1e-6, rngs=rngs, **config.dtypes)


def timm_body(backbone: Backbone, side: int, mlp_kernel: tuple[int, ...] = ()) -> Layout:
    """The entries of a backbone in timm; `mlp_kernel` is that of its MLPs, if it has one."""
    del side
    merge, embed = None, backbone.patch_embed
    yield from patches(embed.proj, "stem.0", embed.size)
    yield from norm(embed.norm, "stem.1")
    for i, stage in enumerate(backbone.stages):
        if merge is not None:
            yield from norm(merge.norm, f"stages.{i}.downsample.0")
            yield from patches(merge.proj, f"stages.{i}.downsample.1", merge.size)
        merge = stage.merge
        for j, block in enumerate(cast(Any, stage.blocks)):
            name = f"stages.{i}.blocks.{j}"
            refuse_gate(block, name)
            if block.layer_scale is not None:
                yield raw(block.layer_scale, f"{name}.gamma")
            yield from depthwise(block.mixer, f"{name}.conv_dw")
            yield from norm(block.norm, f"{name}.norm")
            yield from linear_layout(block.mlp.fc1, f"{name}.mlp.fc1", mlp_kernel)
            if block.response_norm is not None:
                yield from norm(block.response_norm, f"{name}.mlp.grn")
            yield from linear_layout(block.mlp.fc2, f"{name}.mlp.fc2", mlp_kernel)


def small_timm_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone of timm's small models, whose MLPs are convolutions."""
    yield from timm_body(backbone, side, mlp_kernel=(1, 1))


def timm_top(classifier: Any) -> Layout:
    """The entries of a classifier beyond those of its backbone, in timm."""
    yield from norm(classifier.neck, "head.norm")
    if classifier.head is not None:
        yield from linear_layout(classifier.head, "head.fc")


# timm's names, and the authors'.
_OFFICIAL_NAMES = [
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.mlp\.fc", ".pwconv"),
    (r"\.mlp\.grn\.weight$", ".grn.gamma"),
    (r"\.mlp\.grn\.bias$", ".grn.beta"),
    (r"^head\.norm\.", "norm."),
    (r"^head\.fc\.", "head."),
]


def official_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in the authors' code."""
    for item in renamed(timm_body(backbone, side), _OFFICIAL_NAMES):
        if isinstance(item, Entry) and ".grn." in item.name:
            item = dataclasses.replace(item, shape=(1, 1, 1, *item.shape))
        yield item


def official_top(classifier: Any) -> Layout:
    """The entries of a classifier beyond those of its backbone, in the authors' code."""
    yield from renamed(timm_top(classifier), _OFFICIAL_NAMES)


def _family(*, response_norm: bool, body: Callable[[Backbone, int], Layout]) -> Family:
    return Family(
        block=functools.partial(ConvNeXtBlock, response_norm=response_norm),
        stem=stem,
        downsample=downsample,
        output_norm=layer_norm,
        norm=None,
        neck=layer_norm,
        layouts={
            "timm": TorchLayout(body, timm_top, re.compile(r"head\.")),
            "official": TorchLayout(official_body, official_top, re.compile(r"(norm|head)\.")),
        },
    )


_V1 = _family(response_norm=False, body=timm_body)
_V2 = _family(response_norm=True, body=timm_body)
_V1_SMALL = _family(response_norm=False, body=small_timm_body)
_V2_SMALL = _family(response_norm=True, body=small_timm_body)


def _variant(family: Family, embed_dim: int, depths: tuple[int, ...], *known: Any) -> Variant:
    num_params, gmacs, accuracy = known
    return Variant(
        family=family, mixer=dict(connectivity="sliding", dynamic="none"), embed_dim=embed_dim,
        depths=depths, num_params=num_params, gmacs=gmacs, accuracy=accuracy,
        source="timm" if family is _V1_SMALL else "authors",
    )  # fmt: skip


# Accuracies are those of training on ImageNet-1K alone.
VARIANTS = {
    "convnext_atto": _variant(_V1_SMALL, 40, (2, 2, 6, 2), 3_695_520, 0.55, 75.7),
    "convnext_femto": _variant(_V1_SMALL, 48, (2, 2, 6, 2), 5_217_784, 0.78, 77.5),
    "convnext_pico": _variant(_V1_SMALL, 64, (2, 2, 6, 2), 9_045_672, 1.37, 79.5),
    "convnext_nano": _variant(_V1_SMALL, 80, (2, 2, 8, 2), 15_593_560, 2.45, 80.8),
    "convnext_tiny": _variant(_V1, 96, (3, 3, 9, 3), 28_589_128, 4.46, 82.1),
    "convnext_small": _variant(_V1, 96, (3, 3, 27, 3), 50_223_688, 8.68, 83.1),
    "convnext_base": _variant(_V1, 128, (3, 3, 27, 3), 88_591_464, 15.35, 83.8),
    "convnext_large": _variant(_V1, 192, (3, 3, 27, 3), 197_767_336, 34.36, 84.3),
    "convnext_xlarge": _variant(_V1, 256, (3, 3, 27, 3), 350_196_968, 60.92, None),
    "convnextv2_atto": _variant(_V2_SMALL, 40, (2, 2, 6, 2), 3_708_400, 0.55, 76.7),
    "convnextv2_femto": _variant(_V2_SMALL, 48, (2, 2, 6, 2), 5_233_240, 0.78, 78.5),
    "convnextv2_pico": _variant(_V2_SMALL, 64, (2, 2, 6, 2), 9_066_280, 1.37, 80.3),
    "convnextv2_nano": _variant(_V2_SMALL, 80, (2, 2, 8, 2), 15_623_800, 2.45, 81.9),
    "convnextv2_tiny": _variant(_V2, 96, (3, 3, 9, 3), 28_635_496, 4.46, 83.0),
    "convnextv2_small": _variant(_V2, 96, (3, 3, 27, 3), 50_318_440, 8.68, None),
    "convnextv2_base": _variant(_V2, 128, (3, 3, 27, 3), 88_717_800, 15.35, 84.9),
    "convnextv2_large": _variant(_V2, 192, (3, 3, 27, 3), 197_956_840, 34.36, 85.8),
    "convnextv2_huge": _variant(_V2, 352, (3, 3, 27, 3), 660_289_640, 114.92, 86.3),
}

ALIASES: dict[str, str] = {}
