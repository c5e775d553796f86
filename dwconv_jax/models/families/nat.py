"""NAT (Hassani et al., 2023) and DiNAT (Hassani and Shi, 2022): attention to what is nearest."""

import functools
import re
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.conv_norm_act import conv2d
from dwconv_jax.layers.overlapping_patches import OverlappingPatches
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.blocks.transformer import TransformerBlock
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import refuse_gate
from dwconv_jax.models.family import Family, TorchLayout, layer_norm
from dwconv_jax.models.torch_attention import check_attention
from dwconv_jax.models.torch_layout import Entry, Layout
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Sliding


class NATBlock(TransformerBlock):
    """Layer norm and layer; then layer norm and MLP. Only every second block is dilated.

    The larger variants scale the channels of both branches. Maps smaller than the neighborhood are
    zero-padded for attention, which sees the padding; so does attention on a canvas, as in mmdet.
    """

    def __init__(self, spec: BlockSpec, *, layer_scale: float | None = None, rngs: nnx.Rngs):
        flags = {} if spec.index % 2 else {"dilation": 1}
        mixer = spec.make_mixer(rngs, **flags)
        super().__init__(spec, mixer=mixer, layer_scale=layer_scale, rngs=rngs)

    def mix(self, x: jax.Array, train: bool | None, canvas: Canvas) -> jax.Array:
        """The layer, `[B, H, W, C]` to `[B, H, W, C]`."""
        match self.mixer.connectivity:
            case Sliding(kernel_size=size, dilation=dilation, border=("clamp", "clamp")):
                height, width = x.shape[1:3]
                bottom = max(size[0] * dilation[0] - height, 0)
                right = max(size[1] * dilation[1] - width, 0)
                padded = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
                return self.mixer(padded, train)[:, :height, :width]
            case _:
                return super().mix(x, train, canvas)


class Tokenizer(nnx.Module):
    """Two 3x3 convolutions that overlap, with stride 2 each, and layer norm."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        features, self.stride = config.widths[0], min(2, config.patch_size)
        hidden, rest = features // 2, config.patch_size // self.stride
        inputs = config.in_channels
        self.conv1 = conv2d(inputs, hidden, stride=self.stride, rngs=rngs, **config.dtypes)
        self.conv2 = conv2d(hidden, features, stride=rest, rngs=rngs, **config.dtypes)
        self.norm = layer_norm(features, config, rngs=rngs)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / 4), ceil(W / 4), C]`."""
        del train
        x = canvas.strided(self.stride).clear(self.conv1(x))
        return self.norm(self.conv2(x))


def downsample(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> OverlappingPatches:
    """3x3 with stride 2, without a bias."""
    return OverlappingPatches(features, out_features, use_bias=False, rngs=rngs, **config.dtypes)


def official_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in the authors' code."""
    del side
    for i, conv in enumerate((backbone.patch_embed.conv1, backbone.patch_embed.conv2)):
        yield from torch.conv(conv, f"patch_embed.proj.{i}")
    yield from torch.norm(backbone.patch_embed.norm, "patch_embed.norm")
    for i, stage in enumerate(backbone.stages):
        for j, block in enumerate(cast(Any, stage.blocks)):
            yield from torch.prefixed(f"levels.{i}.blocks.{j}", _block_layout(block))
        if stage.merge is not None:
            yield from torch.conv(stage.merge.conv, f"levels.{i}.downsample.reduction")
            yield from torch.norm(stage.merge.norm, f"levels.{i}.downsample.norm")


def _block_layout(block: NATBlock) -> Layout:
    refuse_gate(block, "block")
    if block.scales is not None:
        yield from torch.halves(block.scales, "gamma1", "gamma2")
    yield from torch.norm(block.norm_mixer, "norm1")
    source = check_attention(block.mixer, "attn", Sliding)
    table, connectivity = source.position_bias.table, cast(Sliding, block.mixer.connectivity)
    down, across = (2 * size - 1 for size in connectivity.kernel_size)
    heads = source.num_heads
    yield Entry("attn.rpb", table, (heads, down, across), (down, across, heads), (2, 0, 1))
    yield from torch.linear(source.qkv, "attn.qkv")
    yield from torch.linear(block.mixer.proj, "attn.proj")
    yield from torch.norm(block.norm_mlp, "norm2")
    yield from torch.linear(block.mlp.fc1, "mlp.fc1")
    yield from torch.linear(block.mlp.fc2, "mlp.fc2")


def nat_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in Hugging Face's transformers."""
    for item in torch.renamed(official_body(backbone, side), _TRANSFORMERS_NAMES):
        match item:
            case Entry(name=name) if name.endswith(".layer_scale_parameters.1"):
                shape = (2, *item.shape)
                name = name.removesuffix(".1")
                yield Entry(name, item.variable, shape, shape, (0, 1))
            case Entry(name=name) if name.endswith(".layer_scale_parameters.2"):
                pass
            case Entry(name=name) if ".qkv." in name:
                yield from _apart(item)
            case _:
                yield item


def _apart(qkv: Entry) -> Layout:
    """Queries, keys and values as entries of their own."""
    width = qkv.shape[0] // 3
    for i, part in enumerate(("query", "key", "value")):
        columns = (i * width, (i + 1) * width)
        split = (*qkv.split[:-1], width)
        shape = (width, *qkv.shape[1:])
        name = qkv.name.replace("qkv", part)
        yield Entry(name, qkv.variable, shape, split, qkv.order, columns=columns)


def nat_top(classifier: Any) -> Layout:
    """The entries of a classifier beyond those of its backbone, in Hugging Face's transformers."""
    yield from torch.norm(classifier.norm, "nat.layernorm")
    if classifier.head is not None:
        yield from torch.linear(classifier.head, "classifier")


def dinat_body(backbone: Backbone, side: int) -> Layout:
    """Those of a backbone with dilation."""
    yield from torch.renamed(nat_body(backbone, side), _DINAT_NAMES)


def dinat_top(classifier: Any) -> Layout:
    """Those of a classifier with dilation."""
    yield from torch.renamed(nat_top(classifier), _DINAT_NAMES)


_TRANSFORMERS_NAMES = [
    (r"^patch_embed\.proj\.", "nat.embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "nat.embeddings.norm."),
    (r"^levels\.(\d+)\.blocks\.", r"nat.encoder.levels.\1.layers."),
    (r"^levels\.", "nat.encoder.levels."),
    (r"\.gamma(\d)$", r".layer_scale_parameters.\1"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]


_DINAT_NAMES = [(r"^nat\.", "dinat.")]
_NAT_LAYOUT = TorchLayout(nat_body, nat_top, re.compile(r"(nat\.layernorm|classifier)\."))
_DINAT_LAYOUT = TorchLayout(dinat_body, dinat_top, re.compile(r"(dinat\.layernorm|classifier)\."))


def _family(transformers: TorchLayout, layer_scale: float | None = None) -> Family:
    return Family(
        block=functools.partial(NATBlock, layer_scale=layer_scale),
        stem=Tokenizer,
        downsample=downsample,
        layouts={"official": TorchLayout(official_body), "transformers": transformers},
    )


_NAT, _NAT_SCALED = _family(_NAT_LAYOUT), _family(_NAT_LAYOUT, 1e-5)
_DINAT, _DINAT_SCALED = _family(_DINAT_LAYOUT), _family(_DINAT_LAYOUT, 1e-5)
_MINI: dict[str, Any] = dict(embed_dim=64, depths=(3, 4, 6, 5), heads=2, mlp_ratio=3.0)
_TINY = _MINI | dict(depths=(3, 4, 18, 5))
_SMALL = _TINY | dict(embed_dim=96, heads=3, mlp_ratio=2.0)
_BASE = _SMALL | dict(embed_dim=128, heads=4)
_LARGE = _SMALL | dict(embed_dim=192, heads=6)


def _variant(
    family: Family, size: dict[str, Any], *known: Any, dilation: tuple[int, ...] | int = 1
) -> Variant:
    num_params, gmacs, accuracy = known
    heads = tuple(size["heads"] * 2**i for i in range(4))
    return Variant(
        family=family, mixer=dict(
            connectivity="sliding", border="clamp", dilation=dilation,
            dynamic="attention", num_heads=heads,
        ),
        embed_dim=size["embed_dim"], depths=size["depths"],
        config=dict(mlp_ratio=size["mlp_ratio"]),
        num_params=num_params, gmacs=gmacs, accuracy=accuracy,
    )  # fmt: skip


_DILATED: dict[str, Any] = dict(dilation=(8, 4, 2, 1))


# DiNAT-Large is trained on ImageNet-22K first.
VARIANTS = {
    "nat_mini": _variant(_NAT, _MINI, 19_984_174, 2.69, 81.8),
    "nat_tiny": _variant(_NAT, _TINY, 27_901_582, 4.3, 83.2),
    "nat_small": _variant(_NAT_SCALED, _SMALL, 50_743_297, 7.77, 83.7),
    "nat_base": _variant(_NAT_SCALED, _BASE, 89_769_652, 13.68, 84.3),
    "dinat_mini": _variant(_DINAT, _MINI, 19_984_174, 2.69, 81.8, **_DILATED),
    "dinat_tiny": _variant(_DINAT, _TINY, 27_901_582, 4.3, 82.7, **_DILATED),
    "dinat_small": _variant(_DINAT, _SMALL, 50_719_681, 7.77, 83.8, **_DILATED),
    "dinat_base": _variant(_DINAT_SCALED, _BASE, 89_769_652, 13.68, 84.4, **_DILATED),
    "dinat_large": _variant(_DINAT, _LARGE, 200_943_514, 30.46, None, **_DILATED),
}

ALIASES: dict[str, str] = {}
