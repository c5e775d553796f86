"""The hierarchical backbone: four stages of blocks at strides 4, 8, 16 and 32."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import PatchEmbed, PatchMerging
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.flags import takes_shift
from dwconv_jax.layers.locally_connected import needs_map_size
from dwconv_jax.models.block import Block, BlockSpec
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.torch_layout import Layout, linear, norm, patch_embed
from dwconv_jax.ops.checks import check_map


class Stage(nnx.Module):
    """Blocks at one resolution; `merge`, if there is one, leads to the next stage."""

    def __init__(
        self, blocks: Sequence[nnx.Module], merge: PatchMerging | None, *, remat: bool = False
    ):
        self.blocks = nnx.List(blocks)
        self.merge = nnx.data(merge)
        self.remat = remat

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`, before merging."""

        def run(block: Any, x: jax.Array, rngs: nnx.Rngs | None, canvas: Canvas) -> jax.Array:
            return canvas.clear(block(x, train, rngs, canvas))

        if self.remat:
            run = nnx.remat(run)
        for block in self.blocks:
            x = run(block, x, rngs, canvas)
        return x


class Backbone(nnx.Module):
    """Patch embedding and stages; families differ in the block and its locally connected layer."""

    def __init__(
        self,
        block: type[Block],
        mixer: Mapping[str, Any],
        config: BackboneConfig,
        *,
        pad_to_window: bool = False,
        rngs: nnx.Rngs,
    ):
        """Builds the stages; stage `i` has `embed_dim * 2**i` channels and `depths[i]` blocks.

        Args:
          block: what stands around the layer: `DWBlock`, `SwinBlock` or your own.
          mixer: flags of `LocallyConnected`, each a value or a sequence with one for each stage;
            `num_heads` or `channels_per_group` may stand for `groups`. Where windows are not given
            a `shift`, every second block shifts them by half, as in Swin.
          config: everything else.
          pad_to_window: whether the map is zero-padded to a multiple of the window around the layer
            of every block, as the authors do for dense prediction. Nothing masks the padding:
            norms, pooling and attention see it.
          rngs: initialization keys.

        Raises:
          UserError: for flags with no meaning, naming the flag.
        """
        self.in_channels, dtypes = config.in_channels, config.dtypes
        self.widths = config.widths
        self.patch_embed = PatchEmbed(
            config.in_channels, config.embed_dim, config.patch_size, rngs=rngs, **dtypes
        )
        flags = {"kernel_size": config.window_size, **mixer}
        drop_paths = iter(np.linspace(0, config.drop_path_rate, sum(config.depths)).tolist())
        stages = []
        for i, depth in enumerate(config.depths):
            features = config.widths[i]
            blocks: list[Any] = [
                block(
                    BlockSpec(
                        features,
                        stage_mixer(flags, config, i, j),
                        config.mlp_ratio,
                        next(drop_paths),
                        config.batch_norm_group_size,
                        pad_to_window,
                        config.squeeze_excitation,
                        dtypes,
                    ),
                    rngs=rngs,
                )
                for j in range(depth)
            ]
            last = i == len(config.depths) - 1
            merge = None if last else PatchMerging(features, rngs=rngs, **dtypes)
            remat = config.at_stage("remat", config.remat, i)
            stages.append(Stage(blocks, merge, remat=remat))
        self.stages = nnx.List(stages)

    def features(
        self,
        images: jax.Array,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
        canvas: Canvas = WHOLE,
    ) -> tuple[jax.Array, ...]:
        """The feature map at the end of each stage.

        Args:
          images: `[B, H, W, in_channels]`, floating, any `H` and `W`; padded where they must be.
          train: use batch statistics (and update the running ones) and stochastic depth; None
            follows `model.train()` and `model.eval()`.
          rngs: keys for stochastic depth; None for the model's own.
          canvas: which part of each image counts; `images` must be 0 beyond.

        Returns:
          One map a stage, `[B, ceil(H / s), ceil(W / s), C_s]` at strides `s` 4, 8, 16 and 32; 0
          beyond what counts.
        """
        check_map(images, "images")
        if images.shape[-1] != self.in_channels:
            raise ValueError(
                f"images must be [B, H, W, {self.in_channels}], got {images.shape[-1]} channels"
            )
        x = self.patch_embed(images)
        maps = []
        for stage, stride in zip(self.stages, self.strides, strict=True):
            own = canvas.strided(stride)
            x = stage(own.clear(x), train, rngs, own)
            maps.append(x)
            if stage.merge is not None:
                x = stage.merge(x)
        return tuple(maps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each stage's map over the images."""
        return tuple(self.patch_embed.patch_size * 2**i for i in range(len(self.stages)))

    def torch_layout(self, image_size: int | None = None) -> Layout:
        """The entries of the authors' checkpoints; masks for an image size where it is given."""
        side = 0 if image_size is None else -(-image_size // self.patch_embed.patch_size)
        yield from patch_embed(self.patch_embed, "patch_embed")
        for i, stage in enumerate(self.stages):
            blocks: list[Any] = list(stage.blocks)
            for j, block in enumerate(blocks):
                name = f"layers.{i}.blocks.{j}"
                _refuse_gate(block, name)
                yield from block.torch_layout(name, side)
            if stage.merge is not None:
                yield from linear(stage.merge.reduction, f"layers.{i}.downsample.reduction")
                yield from norm(stage.merge.norm, f"layers.{i}.downsample.norm")
            side = -(-side // 2)


def stage_mixer(
    flags: Mapping[str, Any], config: BackboneConfig, stage: int, block: int
) -> dict[str, Any]:
    """The flags of one `LocallyConnected` layer, from those of the whole backbone."""
    mixer = {name: config.at_stage(name, value, stage) for name, value in flags.items()}
    features = config.widths[stage]
    given = [n for n in ("groups", "num_heads", "channels_per_group") if n in mixer]
    if len(given) > 1:
        raise UserError(f"mixer has both {' and '.join(given)}; give one of them")
    if "num_heads" in mixer:
        mixer["groups"] = _divisor("num_heads", mixer.pop("num_heads"), features, stage)
    if "channels_per_group" in mixer:
        per_group = mixer.pop("channels_per_group")
        mixer["groups"] = features // _divisor("channels_per_group", per_group, features, stage)
    if takes_shift(mixer.get("connectivity", "sliding")) and block % 2:
        mixer.setdefault("shift", _half(mixer["kernel_size"]))
    if needs_map_size(**mixer):
        mixer["map_size"] = config.map_size(stage)
    return mixer


def _half(window_size: int | tuple[int | None, ...] | None) -> Any:
    """Half a window along each axis; none along an axis that it covers."""
    if isinstance(window_size, (tuple, list)):
        return tuple(map(_half, window_size))
    return (window_size or 0) // 2


def _divisor(name: str, value: int, features: int, stage: int) -> int:
    if value < 1 or features % value:
        raise UserError(f"{name}={value} must divide the {features} channels of stage {stage}")
    return value


def _refuse_gate(block: Any, name: str) -> None:
    if getattr(block, "gate", None) is not None:
        raise UserError(
            f"{name}: the authors' code has no squeeze-excitation, so there is no PyTorch layout "
            "for squeeze_excitation=True"
        )
