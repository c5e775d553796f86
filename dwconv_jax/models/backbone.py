"""The hierarchical backbone: four stages of blocks at strides 4, 8, 16 and 32."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers import PatchEmbed, PatchMerging
from dwconv_jax.layers.canvas import divide_up, keep_inside
from dwconv_jax.models.families.blocks import BLOCKS
from dwconv_jax.ops.checks import check_choice, check_map

PerStage = int | Sequence[int]


class Stage(nnx.Module):
    """Blocks at one resolution; `merge`, where there is one, leads to the next stage."""

    def __init__(
        self, blocks: Sequence[nnx.Module], merge: PatchMerging | None, *, remat: bool = False
    ):
        self.blocks = nnx.List(blocks)
        self.merge = nnx.data(merge)
        self.remat = remat

    def __call__(
        self, x: jax.Array, train: bool, rngs: nnx.Rngs | None, extent: jax.Array | None = None
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`, before merging."""

        def run(
            block: Any, x: jax.Array, rngs: nnx.Rngs | None, extent: jax.Array | None
        ) -> jax.Array:
            return block(x, train, rngs=rngs, extent=extent)

        if self.remat:
            run = nnx.remat(run)
        for block in self.blocks:
            x = run(block, x, rngs, extent)
        return x


class Backbone(nnx.Module):
    """Patch embedding and stages; the block and its locally connected layer are what differs."""

    def __init__(
        self,
        *,
        block: Literal["dw", "swin"],
        mixer: Mapping[str, Any],
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        window_size: PerStage = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
        patch_size: int = 4,
        image_size: int | tuple[int, int] | None = None,
        batch_norm_group_size: int | None = None,
        pad_to_window: bool = False,
        remat: bool | Sequence[bool] = False,
        squeeze_excitation: bool = False,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        """Builds the stages; stage `i` has `embed_dim * 2**i` channels and `depths[i]` blocks.

        Args:
          block: what stands around the layer: "dw" (DWNet) or "swin".
          mixer: flags of `LocallyConnected`, each a value or a sequence with one for each stage.
            `channels_per_group` may stand for `groups`. Where windows are not given a `shift`,
            every second block shifts them by half, as in Swin.
          embed_dim: channels of the first stage.
          depths: blocks of each stage.
          window_size: kernel or window size, one or one for each stage.
          mlp_ratio: width of the MLP's hidden layer over its input's.
          drop_path_rate: stochastic depth at the last block; it grows linearly from 0.
          in_channels: channels of the images.
          patch_size: stride of the first stage.
          image_size: needed where the mixer's parameters depend on the map's size.
          batch_norm_group_size: see `BatchNorm`.
          pad_to_window: zero-pad the map to a multiple of the window before the layer of every
            block and crop it after, as the authors do for dense prediction. Nothing masks the
            padding: norms, pooling and attention see it.
          remat: whether gradients keep only the inputs of blocks and compute what is inside again:
            less memory for more time; one value or one for each stage.
          squeeze_excitation: gate the channels behind the layer of every block.
          rngs: initialisation keys.
          **dtypes: `dtype` of the computation and `param_dtype`.

        Raises:
          ValueError: for flags with no meaning, naming the flag.
        """
        check_choice("block", block, tuple(BLOCKS))
        self.in_channels = in_channels
        self.out_features = embed_dim * 2 ** (len(depths) - 1)
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_size, rngs=rngs, **dtypes)
        flags = {"kernel_size": window_size, **mixer}
        drop_paths = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())
        stages = []
        for i, depth in enumerate(depths):
            features = embed_dim * 2**i
            map_size = None if image_size is None else _map_size(image_size, patch_size * 2**i)
            blocks = [
                BLOCKS[block](
                    features,
                    mixer=stage_mixer(flags, i, len(depths), j, features, map_size),
                    mlp_ratio=mlp_ratio,
                    drop_path=next(drop_paths),
                    batch_norm_group_size=batch_norm_group_size,
                    pad_to_window=pad_to_window,
                    squeeze_excitation=squeeze_excitation,
                    rngs=rngs,
                    **dtypes,
                )
                for j in range(depth)
            ]
            last = i == len(depths) - 1
            merge = None if last else PatchMerging(features, rngs=rngs, **dtypes)
            stages.append(Stage(blocks, merge, remat=_at_stage("remat", remat, i, len(depths))))
        self.stages = nnx.List(stages)

    def features(
        self,
        images: jax.Array,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
        extent: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        """The feature map at the end of each stage.

        Args:
          images: `[B, H, W, in_channels]`, floating, any `H` and `W`; padded where they must be.
          train: use batch statistics (and update the running ones) and stochastic depth.
          rngs: keys for stochastic depth; None for the model's own.
          extent: int `[B, 2]`, height and width of each image where they differ: `images` is then a
            canvas, 0 beyond, and the result what it is without the rest of the canvas.

        Returns:
          One map a stage, `[B, ceil(H / s), ceil(W / s), C_s]` at strides `s` 4, 8, 16 and 32; of
          images with an extent, 0 beyond `ceil(extent / s)`.
        """
        check_map(images, "images")
        if images.shape[-1] != self.in_channels:
            raise UserError(
                f"images must be [B, H, W, {self.in_channels}], got {images.shape[-1]} channels"
            )
        x = self.patch_embed(images)
        maps = []
        for stage, stage_extent in zip(self.stages, self.extents(extent), strict=True):
            x = stage(keep_inside(x, stage_extent), train, rngs, stage_extent)
            maps.append(x)
            if stage.merge is not None:
                x = stage.merge(x)
        return tuple(maps)

    def extents(self, extent: jax.Array | None) -> list[Any]:
        """The extent of each stage's map for images of an extent; None for None."""
        stride = self.patch_embed.patch_size
        return [divide_up(extent, stride * 2**i) for i in range(len(self.stages))]


def stage_mixer(
    flags: Mapping[str, Any],
    stage: int,
    num_stages: int,
    block: int,
    features: int,
    map_size: tuple[int, int] | None,
) -> dict[str, Any]:
    """The flags of one `LocallyConnected` layer, out of those of the whole backbone."""
    mixer = {name: _at_stage(name, value, stage, num_stages) for name, value in flags.items()}
    if "channels_per_group" in mixer:
        if "groups" in mixer:
            raise UserError("mixer has both groups and channels_per_group; give one of them")
        per_group = mixer.pop("channels_per_group")
        if per_group < 1 or features % per_group:
            raise UserError(
                f"channels_per_group={per_group} must divide the {features} channels of stage "
                f"{stage}"
            )
        mixer["groups"] = features // per_group
    if mixer.get("connectivity") == "window" and block % 2:
        mixer.setdefault("shift", mixer["kernel_size"] // 2)
    if _depends_on_map(mixer):
        mixer["map_size"] = map_size
    return mixer


def _at_stage(name: str, value: Any, stage: int, num_stages: int) -> Any:
    if not isinstance(value, (tuple, list)):
        return value
    if len(value) != num_stages:
        raise UserError(
            f"{name}={value!r} must be one value or one for each of {num_stages} stages"
        )
    return value[stage]


def _depends_on_map(mixer: Mapping[str, Any]) -> bool:
    unshared = mixer.get("share_positions") is False
    predicted_at_once = mixer.get("dynamic", "none") in ("none", "pooled")
    return mixer.get("connectivity") == "global" or (unshared and predicted_at_once)


def _map_size(image_size: int | tuple[int, int], stride: int) -> tuple[int, int]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return -(-height // stride), -(-width // stride)
