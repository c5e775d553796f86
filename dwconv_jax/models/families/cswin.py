"""CSWin (Dong et al., 2022): half of the heads attend in rows of stripes, half in columns."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax import ops
from dwconv_jax.errors import UserError
from dwconv_jax.layers import DepthwiseConv, linear
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.overlapping_patches import OverlappingPatches
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.blocks.transformer import TransformerBlock
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import refuse_gate
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_layout import Layout
from dwconv_jax.models.variant import Variant
from dwconv_jax.ops.connectivity import Connectivity, Window
from dwconv_jax.ops.dispatch import logits, merge, partition


class StripeAttention(nnx.Module):
    """Attention in stripes: the first half of the heads in upright ones, the second in level ones.

    With `width=None` all heads see the whole map. A depth-wise 3x3 convolution of the values inside
    of each stripe is added to what attention returns (locally-enhanced position encoding).
    """

    def __init__(
        self,
        features: int,
        num_heads: int,
        width: int | None,
        *,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        """Creates the projections and convolutions.

        Args:
          features: channels `C`.
          num_heads: divides `C`; even unless `width` is None.
          width: of the stripes.
          rngs: initialization keys.
          **dtypes: `dtype` and `param_dtype`.

        Raises:
          UserError: for an odd number of heads with two directions.
        """
        whole = Window((None, None))
        self.stripes = (whole,) if width is None else (Window((None, width)), Window((width, None)))
        if num_heads % len(self.stripes):
            raise UserError(f"num_heads={num_heads} must be even: half of them see rows of stripes")
        self.num_heads = num_heads // len(self.stripes)
        part = features // len(self.stripes)
        self.qkv = linear(features, 3 * features, rngs=rngs, **dtypes)
        self.lepe = nnx.List(DepthwiseConv(part, 3, rngs=rngs, **dtypes) for _ in self.stripes)
        self.proj = linear(features, features, rngs=rngs, **dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        del train
        qkv = jnp.split(canvas.clear(self.qkv(x)), 3, axis=-1)
        parts = zip(*(jnp.split(y, len(self.stripes), axis=-1) for y in qkv), strict=True)
        mixed = [
            self._attend(q, k, v, stripes, canvas) + in_blocks(lepe, v, stripes)
            for (q, k, v), stripes, lepe in zip(parts, self.stripes, self.lepe, strict=True)
        ]
        return self.proj(jnp.concatenate(mixed, axis=-1))

    def _attend(
        self, q: jax.Array, k: jax.Array, v: jax.Array, stripes: Connectivity, canvas: Canvas
    ) -> jax.Array:
        """Attention of `[B, H, W, C]` each."""
        size = q.shape[1:-1]
        heads = (*q.shape[:-1], self.num_heads, q.shape[-1] // self.num_heads)
        q, k = q.reshape(heads), k.reshape(heads)
        scores = logits(q * q.shape[-1] ** -0.5, k, stripes).astype(jnp.float32)
        hidden = canvas.hidden(stripes, size)
        if hidden is not None:
            scores = jnp.where(hidden[:, :, None], jnp.finfo(jnp.float32).min, scores)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        return ops.locally_connected(v, jnp.moveaxis(weights, 2, -1), stripes)


def in_blocks(conv: DepthwiseConv, x: jax.Array, windows: Window) -> jax.Array:
    """A convolution inside of each window, `[B, H, W, C]` to `[B, H, W, C]`."""
    size = x.shape[1:3]
    height, width = (cut.length for cut in windows.cuts(*size))
    blocks = partition(x, windows)  # [B, N, Q, C]
    maps = blocks.reshape(*blocks.shape[:2], height, width, -1)
    y = jax.vmap(conv, in_axes=1, out_axes=1)(maps)
    return merge(y.reshape(blocks.shape), windows, size)


class CSWinBlock(TransformerBlock):
    """Layer norm and attention in stripes; then layer norm and MLP. The last stage has none."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        mixer, flags = None, spec.mixer
        if (flags["connectivity"], flags["dynamic"]) == ("window", "attention"):
            last = spec.stage == len(spec.config.depths) - 1
            width = None if last else flags["kernel_size"]
            mixer = StripeAttention(spec.features, flags["groups"], width, rngs=rngs, **spec.dtypes)
        super().__init__(spec, mixer=mixer, rngs=rngs)


def stem(config: BackboneConfig, *, rngs: nnx.Rngs) -> OverlappingPatches:
    """7x7 with stride 4; the original pads 2 positions, not 3."""
    inputs, features, stride = config.in_channels, config.widths[0], config.patch_size
    return OverlappingPatches(
        inputs, features, 7, stride=stride, padding=2, rngs=rngs, **config.dtypes
    )


def downsample(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> OverlappingPatches:
    """3x3 with stride 2."""
    return OverlappingPatches(features, out_features, rngs=rngs, **config.dtypes)


def official_body(backbone: Backbone, side: int) -> Layout:
    """The entries of a backbone in the authors' code."""
    del side
    yield from torch.conv(backbone.patch_embed.conv, "stage1_conv_embed.0")
    yield from torch.norm(backbone.patch_embed.norm, "stage1_conv_embed.2")
    for i, stage in enumerate(backbone.stages, 1):
        blocks: list[Any] = list(stage.blocks)
        for j, block in enumerate(blocks):
            yield from _block_layout(block, f"stage{i}.{j}")
        if stage.merge is not None:
            yield from torch.conv(stage.merge.conv, f"merge{i}.conv")
            yield from torch.norm(stage.merge.norm, f"merge{i}.norm")


def _block_layout(block: CSWinBlock, name: str) -> Layout:
    refuse_gate(block, name)
    mixer = block.mixer
    if not isinstance(mixer, StripeAttention):
        raise UserError(
            f"{name}: the original attends in stripes, so there is no PyTorch layout for "
            f"dynamic={mixer.dynamic!r} weights over {mixer.connectivity}"
        )
    yield from torch.linear(mixer.qkv, f"{name}.qkv")
    yield from torch.norm(block.norm_mixer, f"{name}.norm1")
    yield from torch.linear(mixer.proj, f"{name}.proj")
    for i, lepe in enumerate(mixer.lepe):
        yield from torch.depthwise(lepe, f"{name}.attns.{i}.get_v")
    yield from torch.linear(block.mlp.fc1, f"{name}.mlp.fc1")
    yield from torch.linear(block.mlp.fc2, f"{name}.mlp.fc2")
    yield from torch.norm(block.norm_mlp, f"{name}.norm2")


FAMILY = Family(
    block=CSWinBlock, stem=stem, downsample=downsample,
    layouts={"official": TorchLayout(official_body)},
)  # fmt: skip


def _variant(embed_dim: int, depths: Any, num_heads: Any, size: int, *known: Any) -> Variant:
    num_params, gmacs, accuracy = known
    width = size // 32
    return Variant(
        family=FAMILY, mixer=dict(connectivity="window", dynamic="attention", num_heads=num_heads),
        embed_dim=embed_dim, depths=depths, config=dict(window_size=(1, 2, width, width)),
        image_size=size, num_params=num_params, gmacs=gmacs, accuracy=accuracy,
        source="authors, from ImageNet-22K" if embed_dim == 144 else "authors",
    )  # fmt: skip


_DEEP, _L_HEADS = (2, 4, 32, 2), (6, 12, 24, 24)

VARIANTS = {
    "cswin_tiny_224": _variant(64, (1, 2, 21, 1), (2, 4, 8, 16), 224, 22_320_552, 4.32, 82.8),
    "cswin_small_224": _variant(64, _DEEP, (2, 4, 8, 16), 224, 34_643_304, 6.8, 83.6),
    "cswin_base_224": _variant(96, _DEEP, (4, 8, 16, 32), 224, 77_382_184, 14.96, 84.2),
    "cswin_base_384": _variant(96, _DEEP, (4, 8, 16, 32), 384, 77_382_184, 46.96, 85.5),
    "cswin_large_224": _variant(144, _DEEP, _L_HEADS, 224, 173_262_664, 33.13, 86.5),
    "cswin_large_384": _variant(144, _DEEP, _L_HEADS, 384, 173_262_664, 101.88, 87.5),
}

ALIASES = {
    "CSWin_64_12211_tiny_224": "cswin_tiny_224",
    "CSWin_64_24322_small_224": "cswin_small_224",
    "CSWin_96_24322_base_224": "cswin_base_224",
    "CSWin_96_24322_base_384": "cswin_base_384",
    "CSWin_144_24322_large_224": "cswin_large_224",
    "CSWin_144_24322_large_384": "cswin_large_384",
}
