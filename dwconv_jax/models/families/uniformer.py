"""UniFormer (Li et al., 2022): static 5x5 kernels in early stages, then global attention."""

import functools
import itertools
from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers import DepthwiseConv, PatchEmbed, pointwise
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.conv_norm_act import conv2d
from dwconv_jax.layers.dense import gelu
from dwconv_jax.layers.folding import fold_after, fold_before
from dwconv_jax.layers.initializers import conv_init, redraw
from dwconv_jax.layers.mode import is_training
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import Block, BlockSpec, DropPath, on_padded
from dwconv_jax.models.blocks.transformer import TransformerBlock
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import refuse_gate
from dwconv_jax.models.family import Family, TorchLayout, batch_norm, patch_embed
from dwconv_jax.models.torch_attention import check_attention
from dwconv_jax.models.torch_layout import Layout
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Global


class LocalBlock(nnx.Module):
    """Position encoding; then batch norm, 1x1, layer, 1x1; then batch norm and MLP.

    The position encoding adds a depth-wise 3x3 convolution. A squeeze-excitation gate, where there
    is one, follows the layer.
    """

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        features, dtypes = spec.features, spec.dtypes
        self.position = DepthwiseConv(features, 3, rngs=rngs, **dtypes)
        self.norm_mixer: Any = batch_norm(features, spec.config, rngs=rngs)
        self.pointwise_in = pointwise(features, features, rngs=rngs, **dtypes)
        self.mixer = spec.make_mixer(rngs)
        self.gate = spec.make_gate(rngs)
        self.pointwise_out = pointwise(features, features, rngs=rngs, **dtypes)
        self.norm_mlp: Any = batch_norm(features, spec.config, rngs=rngs)
        self.mlp = spec.make_mlp(rngs)
        for layer in (self.mlp.fc1, self.mlp.fc2):
            for variable in (layer.kernel, layer.bias):
                redraw(variable, conv_init(layer.in_features), rngs=rngs)
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)
        self.map_multiple = spec.map_multiple

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        training = is_training(train, self.drop_path.deterministic)
        valid = canvas.valid(x)
        x = x + self.position(x)
        y = canvas.clear(self.pointwise_in(self.norm_mixer(x, train, valid)))
        y = on_padded(self.mixer, y, train, canvas, self.map_multiple)
        y = self.pointwise_out(y if self.gate is None else self.gate(y, canvas))
        x = x + self.drop_path(y, deterministic=not training, rngs=rngs)
        y = self.mlp(self.norm_mlp(x, train, valid))
        return x + self.drop_path(y, deterministic=not training, rngs=rngs)

    def fold_norms(self) -> None:
        """Makes the batch norms part of the layers after them; for inference alone."""
        self.norm_mixer = fold_before(self.norm_mixer, self.pointwise_in)
        self.norm_mlp = fold_before(self.norm_mlp, self.mlp.fc1)


class GlobalBlock(TransformerBlock):
    """Position encoding, as in `LocalBlock`; layer norm and layer; then layer norm and MLP."""

    def __init__(self, spec: BlockSpec, *, layer_scale: float | None, rngs: nnx.Rngs):
        self.position = DepthwiseConv(spec.features, 3, rngs=rngs, **spec.dtypes)
        super().__init__(spec, epsilon=1e-6, layer_scale=layer_scale, rngs=rngs)

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        return super().__call__(x + self.position(x), train, rngs, canvas)

    def mix(self, x: jax.Array, train: bool | None, canvas: Canvas) -> jax.Array:
        """The layer; nothing is padded around global attention."""
        if isinstance(self.mixer.connectivity, Global):
            return self.mixer(x, train, canvas)
        return super().mix(x, train, canvas)


def block(spec: BlockSpec, *, layer_scale: float | None, rngs: nnx.Rngs) -> Block:
    """A local block in the first two stages, a global one in the others."""
    if spec.stage < 2:
        return LocalBlock(spec, rngs=rngs)
    return GlobalBlock(spec, layer_scale=layer_scale, rngs=rngs)


def downsample(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> PatchEmbed:
    """Patches of 2x2, and layer norm."""
    return PatchEmbed(features, out_features, 2, rngs=rngs, **config.dtypes)


class ConvEmbed(nnx.Module):
    """3x3 convolutions of stride 2, each with batch norm, and GELU between them."""

    def __init__(self, widths: tuple[int, ...], config: BackboneConfig, *, rngs: nnx.Rngs):
        self.convs = nnx.List(
            conv2d(before, after, stride=2, rngs=rngs, **config.dtypes)
            for before, after in itertools.pairwise(widths)
        )
        self.norms: Any = nnx.List(batch_norm(width, config, rngs=rngs) for width in widths[1:])

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`, half the size for each layer."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(canvas.clear(gelu(x) if i else x))
            canvas = canvas.strided(2)
            x = norm(x, train, canvas.valid(x))
        return x

    def fold_norms(self) -> None:
        """Makes the batch norms part of the convolutions; for inference alone."""
        folded = [fold_after(*pair) for pair in zip(self.convs, self.norms, strict=True)]
        self.norms = nnx.List(folded)


def conv_stem(config: BackboneConfig, *, rngs: nnx.Rngs) -> ConvEmbed:
    """Two convolutions."""
    features = config.widths[0]
    return ConvEmbed((config.in_channels, features // 2, features), config, rngs=rngs)


def conv_downsample(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> ConvEmbed:
    """One convolution."""
    return ConvEmbed((features, out_features), config, rngs=rngs)


def official_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in the authors' code."""
    del side
    stages: list[Any] = list(backbone.stages)
    embeds = [backbone.patch_embed, *(stage.merge for stage in stages[:-1])]
    for i, embed in enumerate(embeds, 1):
        yield from _embed_layout(embed, f"patch_embed{i}")
    for i, stage in enumerate(stages, 1):
        for j, part in enumerate(stage.blocks):
            name = f"blocks{i}.{j}"
            refuse_gate(part, name)
            yield from (_local if isinstance(part, LocalBlock) else _global)(part, name)


def _embed_layout(embed: Any, name: str) -> Layout:
    if isinstance(embed, PatchEmbed):
        yield from torch.norm(embed.norm, f"{name}.norm")
        yield from torch.patches(embed.proj, f"{name}.proj", embed.patch_size)
        return
    for i, (conv, norm) in enumerate(zip(embed.convs, embed.norms, strict=True)):
        yield from torch.conv(conv, f"{name}.proj.{3 * i}")
        yield from torch.norm(norm, f"{name}.proj.{3 * i + 1}")


def _local(part: LocalBlock, name: str) -> Layout:
    yield from torch.depthwise(part.position, f"{name}.pos_embed")
    yield from torch.norm(part.norm_mixer, f"{name}.norm1")
    yield from torch.conv1x1(part.pointwise_in, f"{name}.conv1")
    yield from torch.conv1x1(part.pointwise_out, f"{name}.conv2")
    yield from torch.depthwise(part.mixer, f"{name}.attn")
    yield from torch.norm(part.norm_mlp, f"{name}.norm2")
    yield from torch.conv1x1(part.mlp.fc1, f"{name}.mlp.fc1")
    yield from torch.conv1x1(part.mlp.fc2, f"{name}.mlp.fc2")


def _global(part: GlobalBlock, name: str) -> Layout:
    if part.scales is not None:
        yield from torch.halves(part.scales, f"{name}.gamma_1", f"{name}.gamma_2")
    yield from torch.depthwise(part.position, f"{name}.pos_embed")
    yield from torch.norm(part.norm_mixer, f"{name}.norm1")
    source = check_attention(part.mixer, f"{name}.attn", Global, position_bias=None)
    yield from torch.linear(source.qkv, f"{name}.attn.qkv")
    yield from torch.linear(part.mixer.proj, f"{name}.attn.proj")
    yield from torch.norm(part.norm_mlp, f"{name}.norm2")
    yield from torch.linear(part.mlp.fc1, f"{name}.mlp.fc1")
    yield from torch.linear(part.mlp.fc2, f"{name}.mlp.fc2")


def _variant(
    depths: tuple[int, ...],
    *known: Any,
    head_features: int = 64,
    layer_scale: float | None = None,
    convolutions: bool = False,
) -> Variant:
    num_params, gmacs, accuracy = known
    attention = dict(position_bias=None)
    mixer = dict(
        connectivity=("sliding", "sliding", "global", "global"),
        dynamic=("none", "none", "attention", "attention"),
        channels_per_group=(1, 1, head_features, head_features),
        attention=(None, None, attention, attention),
    )
    family = Family(
        block=functools.partial(block, layer_scale=layer_scale),
        stem=conv_stem if convolutions else patch_embed,
        downsample=conv_downsample if convolutions else downsample,
        norm=batch_norm,
        layouts={"official": TorchLayout(official_body)},
    )
    return Variant(
        family=family, mixer=mixer, embed_dim=(64, 128, 320, 512), depths=depths,
        config=dict(window_size=5), num_params=num_params, gmacs=gmacs, accuracy=accuracy,
    )  # fmt: skip


VARIANTS = {
    "uniformer_small": _variant((3, 4, 8, 3), 21_545_256, 3.63, 82.9),
    "uniformer_small_plus": _variant(
        (3, 5, 9, 3), 24_032_552, 4.2, 83.4, head_features=32, convolutions=True
    ),
    "uniformer_small_plus_dim64": _variant((3, 5, 9, 3), 24_032_552, 4.2, 83.4, convolutions=True),
    "uniformer_base": _variant((5, 8, 20, 7), 49_776_552, 8.25, 83.8),
    "uniformer_base_ls": _variant((5, 8, 20, 7), 49_796_520, 8.25, 83.9, layer_scale=1e-6),
}

ALIASES: dict[str, str] = {}
