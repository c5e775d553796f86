"""Networks whose weights over space are static: Swin-MLP (Liu et al., 2021) and MLP-Mixer."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import LayerNorm, Mlp, linear
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.initializers import full, linear_init, normal, redraw, xavier_uniform, zeros
from dwconv_jax.layers.patches import cut_patches
from dwconv_jax.layers.weights import StaticWeights, Traits
from dwconv_jax.models import torch_layout as torch
from dwconv_jax.models.backbone import Backbone
from dwconv_jax.models.blocks.block import BlockSpec
from dwconv_jax.models.blocks.transformer import TransformerBlock
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.families.swin import frame_layout, refuse_gate
from dwconv_jax.models.family import Family, TorchLayout
from dwconv_jax.models.torch_layout import Entry, Layout
from dwconv_jax.models.variant import Variant


class HeadWeights(StaticWeights):
    """Static weights without a bias for each channel."""

    traits = Traits(dynamic=False)


class WindowMlp(nnx.Module):
    """A static linear map of the positions of a window, with a bias for each; a group is a head.

    To shift windows, the map is zero-padded, so that nothing comes around. They do not shift on a
    map no larger than they are.
    """

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        self.size, self.shift = spec.mixer["kernel_size"], spec.mixer.get("shift", 0)
        self.mixer = spec.make_mixer(rngs, dynamic=HeadWeights, shift=0)
        kernel: Any = self.mixer.source.kernel
        redraw(kernel, linear_init, rngs=rngs)
        _, outputs, _, heads = kernel.shape
        self.bias = nnx.Param(full((outputs, heads), 0, spec.config.param_dtype))

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]`, zero beyond the canvas, to `[B, H, W, C]`."""
        del canvas
        height, width = x.shape[1:3]
        shift = self.shift if min(height, width) > self.size else 0
        before = (self.size - shift) % self.size
        y = jnp.pad(x, ((0, 0), (before, shift), (before, shift), (0, 0)))
        y = self.mixer(y, train) + self._biases(*y.shape[1:]).astype(x.dtype)[None]
        return y[:, before : before + height, before : before + width]

    def _biases(self, height: int, width: int, features: int) -> jax.Array:
        """The bias of each position of windows side by side: `[H, W, C]`."""
        window = jnp.repeat(self.bias[...], features // self.bias.shape[-1], axis=1)
        window = window.reshape(self.size, self.size, features)
        repeats = (-(-height // self.size), -(-width // self.size), 1)
        return jnp.tile(window, repeats)[:height, :width]


class SwinMlpBlock(TransformerBlock):
    """Layer norm and static windows; then layer norm and MLP."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        kind = spec.mixer["connectivity"], spec.mixer["dynamic"]
        mixer = WindowMlp(spec, rngs=rngs) if kind == ("window", "none") else None
        super().__init__(spec, mixer=mixer, rngs=rngs)

    def torch_layout(self, name: str, side: int) -> Layout:
        """The block's entries in the authors' checkpoints."""
        del side
        mixer = _own(self.mixer, WindowMlp, name)
        kernel, bias = mixer.mixer.source.kernel, mixer.bias
        _, outputs, seen, heads = kernel.shape
        yield from torch.norm(self.norm_mixer, f"{name}.norm1")
        yield Entry(
            f"{name}.spatial_mlp.weight", kernel, (heads * outputs, seen, 1),
            split=(outputs, seen, heads), order=(2, 0, 1),
        )  # fmt: skip
        yield torch.transposed(bias, f"{name}.spatial_mlp.bias", bias.shape, (heads * outputs,))
        yield from torch.norm(self.norm_mlp, f"{name}.norm2")
        yield from torch.linear(self.mlp.fc1, f"{name}.mlp.fc1")
        yield from torch.linear(self.mlp.fc2, f"{name}.mlp.fc2")


class TokenMlp(nnx.Module):
    """An MLP over the positions of the map, which all channels share."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        self.map_size = spec.mixer["map_size"]
        if self.map_size is None:
            raise UserError("image_size must be given, got None: an MLP sees positions of one map")
        positions = math.prod(self.map_size)
        self.mlp = Mlp(positions, spec.features // 2, rngs=rngs, **spec.dtypes)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        del train
        if x.shape[1:3] != self.map_size or canvas.extent is not None:
            height, width = self.map_size
            raise ValueError(f"x must be [B, {height}, {width}, C], got shape {x.shape}")
        tokens = x.reshape(x.shape[0], -1, x.shape[-1])
        return self.mlp(tokens.swapaxes(1, 2)).swapaxes(1, 2).reshape(x.shape)


class MixerBlock(TransformerBlock):
    """Layer norm and an MLP over positions; then layer norm and an MLP over channels."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs):
        kind = spec.mixer["connectivity"], spec.mixer["dynamic"]
        mixer = TokenMlp(spec, rngs=rngs) if kind == ("global", "none") else None
        super().__init__(spec, mixer=mixer, epsilon=1e-6, rngs=rngs)
        for _, layer in nnx.iter_modules(self):
            if isinstance(layer, nnx.Linear):
                redraw(layer.kernel, xavier_uniform, rngs=rngs)
                if layer.bias is not None:
                    redraw(layer.bias, normal(1e-6), rngs=rngs)


class Patches(nnx.Module):
    """A convolution whose stride is its kernel size."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        self.size, features = config.patch_size, config.widths[0]
        inputs = self.size**2 * config.in_channels
        self.proj = linear(inputs, features, rngs=rngs, **config.dtypes)
        redraw(self.proj.kernel, nnx.initializers.lecun_normal(), rngs=rngs)

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / size), ceil(W / size), C]`."""
        del train, canvas
        return self.proj(cut_patches(x, self.size))


def mixer_norm(features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> LayerNorm:
    """Layer norm with the blocks' epsilon."""
    return LayerNorm(features, epsilon=1e-6, rngs=rngs, **config.dtypes)


def mixer_body(backbone: Backbone, side: int) -> Layout:
    """The entries of MLP-Mixer's backbone in timm."""
    del side
    yield from torch.patches(backbone.patch_embed.proj, "stem.proj", backbone.patch_embed.size)
    (stage,) = backbone.stages
    blocks: list[Any] = list(stage.blocks)
    for j, block in enumerate(blocks):
        name = f"blocks.{j}"
        refuse_gate(block, name)
        tokens = _own(block.mixer, TokenMlp, name).mlp
        for mlp, norm, part in (
            (tokens, block.norm_mixer, "tokens"),
            (block.mlp, block.norm_mlp, "channels"),
        ):
            yield from torch.norm(norm, f"{name}.norm{1 if mlp is tokens else 2}")
            yield from torch.linear(mlp.fc1, f"{name}.mlp_{part}.fc1")
            yield from torch.linear(mlp.fc2, f"{name}.mlp_{part}.fc2")


def _own(mixer: Any, kind: type, name: str) -> Any:
    """The layer; UserError if it is not the original's."""
    if isinstance(mixer, kind):
        return mixer
    raise UserError(
        f"{name}: the original has static weights here, so there is no PyTorch layout for "
        f"dynamic={mixer.dynamic!r} weights over {mixer.connectivity}"
    )


_SWIN_MLP = Family(block=SwinMlpBlock, layouts={"official": TorchLayout(frame_layout)})
_MIXER = Family(
    block=MixerBlock, stem=Patches, norm=mixer_norm, head_init=zeros, dense=False,
    layouts={"timm": TorchLayout(mixer_body)},
)  # fmt: skip


def _swin_mlp(num_heads: tuple[int, ...], *known: Any, base: bool = False) -> Variant:
    num_params, gmacs, accuracy = known
    return Variant(
        family=_SWIN_MLP, mixer=dict(connectivity="window", dynamic="none", num_heads=num_heads),
        embed_dim=128 if base else 96, depths=(2, 2, 18, 2) if base else (2, 2, 6, 2),
        config=dict(window_size=7 if base else 8), image_size=224 if base else 256,
        num_params=num_params, gmacs=gmacs, accuracy=accuracy,
    )  # fmt: skip


def _mixer(embed_dim: int, depth: int, patch_size: int, *known: Any) -> Variant:
    num_params, gmacs, accuracy = known
    return Variant(
        family=_MIXER, mixer=dict(connectivity="global", dynamic="none", groups=1),
        embed_dim=embed_dim, depths=(depth,), config=dict(patch_size=patch_size, image_size=224),
        num_params=num_params, gmacs=gmacs, accuracy=accuracy,
    )  # fmt: skip


VARIANTS = {
    "swin_mlp_tiny_c24": _swin_mlp((4, 8, 16, 32), 20_386_632, 4.03, 79.4),
    "swin_mlp_tiny_c12": _swin_mlp((8, 16, 32, 64), 21_152_072, 4.03, 79.6),
    "swin_mlp_tiny_c6": _swin_mlp((16, 32, 64, 128), 22_682_952, 4.03, 79.7),
    "swin_mlp_base": _swin_mlp((4, 8, 16, 32), 60_659_416, 10.41, 81.3, base=True),
    "mixer_s32_224": _mixer(512, 8, 32, 19_104_624, 1.0, None),
    "mixer_s16_224": _mixer(512, 8, 16, 18_528_264, 3.78, None),
    "mixer_b32_224": _mixer(768, 12, 32, 60_293_428, 3.24, None),
    # Of the paper, trained on ImageNet alone.
    "mixer_b16_224": _mixer(768, 12, 16, 59_880_472, 12.6, 76.44),
    "mixer_l32_224": _mixer(1024, 24, 32, 206_939_264, 11.25, None),
    "mixer_l16_224": _mixer(1024, 24, 16, 208_196_168, 44.55, 71.76),
}

ALIASES = {
    "swin_mlp_tiny_c24_patch4_window8_256": "swin_mlp_tiny_c24",
    "swin_mlp_tiny_c12_patch4_window8_256": "swin_mlp_tiny_c12",
    "swin_mlp_tiny_c6_patch4_window8_256": "swin_mlp_tiny_c6",
    "swin_mlp_base_patch4_window7_224": "swin_mlp_base",
}
