"""HaloNet (Vaswani et al., 2021): ResNets in which blocked attention replaces 3x3 convolutions.

The variants are timm's, with attention in late stages alone.
"""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import BatchNorm
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.conv_norm_act import ConvNormAct
from dwconv_jax.layers.initializers import normal, redraw
from dwconv_jax.layers.mode import is_training
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec, DropPath
from dwconv_jax.models.blocks.resnet import DeepStem, GatedConvolution, apply, conv_norm_act
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_attention import check_attention
from dwconv_jax.models.torch_layout import Entry, Layout
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Sliding


@dataclasses.dataclass(frozen=True)
class Design:
    """What tells the variants apart.

    Attributes:
      blocks: of each stage, "c" for a convolution and "a" for attention; the last one repeats.
      activation: a function of `jax.nn` by name.
      pool: whether the stem ends in max pooling, instead of a stride.
      gate: whether squeeze-excitation follows convolutions.
      narrowing: of blocks inside, in each stage.
      final_features: of a 1x1 convolution before the head; 0 for none.
      stem_features: channels behind the stem.
    """

    blocks: tuple[str, ...]
    activation: str = "silu"
    pool: bool = True
    gate: bool = False
    narrowing: tuple[int, ...] = (4, 4, 4, 4)
    final_features: int = 0
    stem_features: int = 64


class Bottleneck(nnx.Module):
    """1x1 (narrower), spatial layer, 1x1 (wider); their sum with the shortcut is activated."""

    def __init__(self, design: Design, spec: BlockSpec, *, rngs: nnx.Rngs):
        inputs, outputs = spec.in_features, spec.features
        hidden = 8 * max(1, round(outputs / design.narrowing[spec.stage] / 8))
        kinds = design.blocks[spec.stage]
        is_attention = kinds[min(spec.index, len(kinds) - 1)] == "a"
        conv = functools.partial(conv_norm_act, spec.config, rngs=rngs)
        self.activation = design.activation
        changes = spec.stride > 1 or inputs != outputs
        self.shortcut: Any = nnx.data(
            conv(inputs, outputs, 1, spec.stride, None) if changes else None
        )
        self.conv_in = conv(inputs, hidden, 1, activation=design.activation)
        if is_attention:
            self.spatial: Any = Attention(design, spec, hidden, rngs=rngs)
        else:
            self.spatial = GatedConvolution(
                spec.config, hidden, spec.stride,
                activation=design.activation,
                gate=design.gate or spec.config.squeeze_excitation, rngs=rngs,
            )  # fmt: skip
        self.conv_out = conv(hidden, outputs, 1, activation=None)
        self.conv_out.norm.scale.set_value(jnp.zeros_like(self.conv_out.norm.scale[...]))
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`."""
        training = is_training(train, self.drop_path.deterministic)
        y, own = apply(self.conv_in, x, train, canvas)
        y, own = self.spatial(y, train, own)
        y, own = apply(self.conv_out, y, train, own)
        if self.shortcut is not None:
            x, _ = apply(self.shortcut, x, train, canvas)
        x = x + self.drop_path(y, deterministic=not training, rngs=rngs)
        return getattr(jax.nn, self.activation)(x)


class Attention(nnx.Module):
    """Locally connected layer, norm, activation; a stride drops outputs of the layer."""

    def __init__(self, design: Design, spec: BlockSpec, features: int, *, rngs: nnx.Rngs):
        self.stride, self.activation = spec.stride, design.activation
        flags: dict[str, Any] = dict(features=features)
        options = spec.mixer.get("attention") or {}
        if options.get("position_bias") == "query":
            # timm counts the positions of queries after the stride, but not those of keys.
            flags["attention"] = {**options, "query_stride": spec.stride}
        self.mixer = spec.make_mixer(rngs, **flags)
        if self.mixer.dynamic == "attention":
            init = normal(features**-0.5)
            redraw(self.mixer.source.qkv.kernel, init, rngs=rngs)
        group_size = spec.config.batch_norm_group_size
        self.norm: Any = BatchNorm(features, group_size=group_size, **spec.dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, Canvas]:
        """`[B, H, W, C]` to `[B, ceil(H / s), ceil(W / s), C]`, and the canvas of that."""
        own = canvas.strided(self.stride)
        y = self.mixer(x, train, canvas)[:, :: self.stride, :: self.stride]
        return getattr(jax.nn, self.activation)(self.norm(y, train, own.valid(y))), own

    def fold_norms(self) -> None:
        """Makes the norm part of the layer where it can be; for inference alone."""
        self.norm = self.mixer.fold_after(self.norm)


def timm_layout(backbone: Backbone, side: int) -> Layout:
    """The entries of timm's checkpoints."""
    del side
    for i, conv in enumerate(backbone.patch_embed.convs):
        yield from torch.conv_norm_act(conv, f"stem.conv{i + 1}")
    for i, stage in enumerate(backbone.stages):
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            yield from torch.prefixed(f"stages.{i}.{j}", _block_layout(block))


def _block_layout(block: Bottleneck) -> Layout:
    if block.shortcut is not None:
        yield from torch.conv_norm_act(block.shortcut, "shortcut")
    yield from torch.conv_norm_act(block.conv_in, "conv1_1x1")
    spatial: Any = block.spatial
    if isinstance(spatial, Attention):
        yield from _attention_layout(spatial.mixer, "self_attn")
        yield from torch.norm(spatial.norm, "post_attn")
    else:
        yield from torch.conv_norm_act(spatial.conv, "conv2_kxk")
        if spatial.gate is not None:
            yield from torch.conv1x1(spatial.gate.squeeze, "attn.fc1")
            yield from torch.conv1x1(spatial.gate.excite, "attn.fc2")
    yield from torch.conv_norm_act(block.conv_out, "conv3_1x1")


def _attention_layout(mixer: Any, name: str) -> Layout:
    """The entries of blocked attention; UserError for a layer that the original lacks."""
    source: Any = check_attention(mixer, name, Sliding, **_ATTENTION)
    kernel, features, heads = source.qkv.kernel, mixer.features, source.num_heads
    yield Entry(
        f"{name}.q.weight", kernel, (features, features, 1, 1),
        split=(features, features), order=(1, 0), columns=(0, features),
    )  # fmt: skip
    yield Entry(
        f"{name}.kv.weight", kernel, (2 * features, features, 1, 1),
        split=(features, 2, heads, features // heads), order=(2, 1, 3, 0), columns=(features, None),
    )  # fmt: skip
    for rows, axis in zip(source.position_bias.rows, ("height", "width"), strict=True):
        yield torch.raw(rows, f"{name}.pos_embed.{axis}_rel")


def _top_layout(classifier: Any) -> Layout:
    if classifier.norm is not None:
        yield from torch.conv_norm_act(classifier.norm, "final_conv")
    if classifier.head is not None:
        yield from torch.linear(classifier.head, "head.fc")


def family(design: Design) -> Family:
    """The parts of a HaloNet."""

    def final_conv(features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> ConvNormAct:
        width = design.final_features
        return conv_norm_act(config, features, width, 1, activation=design.activation, rngs=rngs)

    return Family(
        block=functools.partial(Bottleneck, design),
        stem=functools.partial(
            DeepStem, features=design.stem_features, activation=design.activation, pool=design.pool
        ),
        downsample=None,
        norm=final_conv if design.final_features else None,
        output_norm=None,
        head_init=normal(0.01),
        layouts={"timm": TorchLayout(timm_layout, _top_layout, re.compile(r"(final_conv|head)\."))},
    )


_ATTENTION = dict(position_bias="query", qkv_bias=False, output_projection=False, see_border=True)


def blocked_attention(num_heads: Any, block: int = 8, halo: int = 3) -> dict[str, Any]:
    """Flags of the layer: positions of a block see it and a halo around it."""
    return dict(
        connectivity="sliding", kernel_size=block + 2 * halo, stride=block,
        dynamic="attention", num_heads=num_heads, attention=_ATTENTION,
    )  # fmt: skip


DESIGNS = {
    "halonet26t": Design(("cc", "cc", "ca", "aa"), activation="relu"),
    "sehalonet33ts": Design(
        ("cc", "cca", "cca", "aa"), pool=False, gate=True, narrowing=(4, 4, 4, 3),
        final_features=1280,
    ),
    "halonet50ts": Design(("ccc", "ccca", "cacaca", "cac")),
}  # fmt: skip

VARIANTS = {
    "halonet26t": Variant(
        family=family(DESIGNS["halonet26t"]), mixer=blocked_attention(8, halo=2),
        embed_dim=256, depths=(2, 2, 2, 2), image_size=256,
        num_params=12_480_288, gmacs=3.25, accuracy=79.1, source="timm",
    ),
    "sehalonet33ts": Variant(
        family=family(DESIGNS["sehalonet33ts"]), mixer=blocked_attention(8),
        embed_dim=(256, 512, 1024, 1536), depths=(2, 3, 3, 2), image_size=256,
        num_params=13_691_712, gmacs=3.62, accuracy=81.0, source="timm",
    ),
    "halonet50ts": Variant(
        family=family(DESIGNS["halonet50ts"]), mixer=blocked_attention((8, 4, 8, 8)),
        embed_dim=256, depths=(3, 4, 6, 3), image_size=256,
        num_params=22_733_280, gmacs=5.26, accuracy=81.6, source="timm",
    ),
}  # fmt: skip

ALIASES: dict[str, str] = {}
