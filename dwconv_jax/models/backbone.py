"""The hierarchical backbone: stages of blocks at strides that grow, most often 4, 8, 16 and 32."""

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.flags import takes_shift
from dwconv_jax.layers.locally_connected import needs_map_size
from dwconv_jax.models.blocks.block import Block, BlockSpec
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.family import Family, Resample, TorchLayout
from dwconv_jax.models.torch_layout import Layout
from dwconv_jax.ops.checks import check_map


class Stage(nnx.Module):
    """Blocks at one resolution; `merge`, if there is one, leads to the next stage."""

    def __init__(
        self,
        blocks: Sequence[Block],
        norm: nnx.Module | None,
        merge: Resample | None,
        *,
        stride: int = 1,
        remat: bool = False,
    ):
        self.blocks = nnx.List(blocks)
        self.norm: Any = nnx.data(norm)
        self.merge: Any = nnx.data(merge)
        self.stride, self.remat = stride, remat

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`, before merging."""
        own = canvas.strided(self.stride)

        def run(block: Any, x: jax.Array, rngs: nnx.Rngs | None, canvas: Canvas) -> jax.Array:
            return own.clear(block(x, train, rngs, canvas))

        if self.remat:
            run = nnx.remat(run)
        for block in self.blocks:
            x = run(block, x, rngs, canvas)
            canvas = own
        return x if self.norm is None else own.clear(self.norm(x, train, own.valid(x)))


class Backbone(nnx.Module):
    """Stem and stages; families differ in the blocks and in what stands between them."""

    def __init__(
        self,
        family: Family,
        mixer: Mapping[str, Any],
        config: BackboneConfig,
        *,
        pad_to_window: bool = False,
        rngs: nnx.Rngs,
    ):
        """Builds the stages; stage `i` has `config.widths[i]` channels and `depths[i]` blocks.

        Args:
          family: the block, and what stands around it.
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
        self.in_channels, self.torch_layouts = config.in_channels, tuple(family.layouts.items())
        all_strides = _strides(family, config)
        self.map_stages = _map_stages(family, all_strides)
        self.widths = tuple(config.widths[i] for i in self.map_stages)
        self.strides = tuple(all_strides[i] for i in self.map_stages)
        before = (config.patch_size, *all_strides[:-1])
        self.input_strides = all_strides if family.downsample else before
        self.patch_embed: Any = family.stem(config, rngs=rngs)
        flags = {"kernel_size": config.window_size, **mixer}
        drop_paths = iter(np.linspace(0, config.drop_path_rate, sum(config.depths)).tolist())
        in_features = getattr(self.patch_embed, "out_features", config.widths[0])
        stages = []
        for i, features in enumerate(config.widths):
            stride = all_strides[i] // self.input_strides[i]
            blocks = []
            for j in range(config.depths[i]):
                spec = BlockSpec(
                    config=config,
                    stage=i,
                    index=j,
                    in_features=features if j else in_features,
                    features=features,
                    stride=1 if j else stride,
                    mixer=stage_mixer(flags, config, i, j, all_strides[i]),
                    drop_path_rate=next(drop_paths),
                    pad_to_window=pad_to_window,
                )
                blocks.append(family.block(spec, rngs=rngs))
            norm = None
            if family.stage_norm:
                norm = family.stage_norm(features, config, rngs=rngs)
            merge, in_features = None, features
            if family.downsample and i + 1 < len(config.widths):
                in_features = config.widths[i + 1]
                merge = family.downsample(features, in_features, config, rngs=rngs)
            remat = config.at_stage("remat", config.remat, i)
            stages.append(Stage(blocks, norm, merge, stride=stride, remat=remat))
        self.stages = nnx.List(stages)

    def features(
        self,
        images: jax.Array,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
        canvas: Canvas = WHOLE,
    ) -> tuple[jax.Array, ...]:
        """The feature map at the end of each stage, or of the last stage at each stride.

        Args:
          images: `[B, H, W, in_channels]`, floating, any `H` and `W`; padded where they must be.
          train: use batch statistics (and update the running ones) and stochastic depth; None
            follows `model.train()` and `model.eval()`.
          rngs: keys for stochastic depth; None for the model's own.
          canvas: which part of each image counts; `images` must be 0 beyond.

        Returns:
          Maps `[B, ceil(H / s), ceil(W / s), C_s]` at the model's `strides`, 4, 8, 16 and 32 in
          most; 0 beyond what counts.
        """
        check_map(images, "images")
        if images.shape[-1] != self.in_channels:
            raise ValueError(
                f"images must be [B, H, W, {self.in_channels}], got {images.shape[-1]} channels"
            )
        x = self.patch_embed(images, train, canvas)
        maps = []
        for stage, stride in zip(self.stages, self.input_strides, strict=True):
            own = canvas.strided(stride)
            x = stage(own.clear(x), train, rngs, own)
            maps.append(x)
            if stage.merge is not None:
                x = stage.merge(x, train, own)
        return tuple(maps[i] for i in self.map_stages)

    def torch_layout(self, image_size: int | None = None, layout: str | None = None) -> Layout:
        """The entries of PyTorch checkpoints, in their order.

        Args:
          image_size: of checkpoints that hold something for one size.
          layout: whose checkpoints, one of `torch_layouts`; None for the first.

        Raises:
          UserError: for a model that no PyTorch code has.
        """
        stride = self.strides[0]
        side = 0 if image_size is None else -(-image_size // stride)
        yield from self.torch_names(layout).body(self, side)

    def torch_names(self, layout: str | None = None) -> TorchLayout:
        """How PyTorch checkpoints name this model's weights; see `torch_layout`."""
        layouts = dict(self.torch_layouts)
        if not layouts:
            raise UserError("this model's family has no PyTorch layout")
        return layouts[next(iter(layouts)) if layout is None else layout]


def _strides(family: Family, config: BackboneConfig) -> tuple[int, ...]:
    """Of the map of every stage over the images."""
    steps = [family.stride(i) for i in range(len(config.depths))]
    return tuple(config.patch_size * step for step in itertools.accumulate(steps, operator.mul))


def _map_stages(family: Family, strides: Sequence[int]) -> tuple[int, ...]:
    """The stages whose maps are features: from the family's first, the last at each stride."""
    last = {stride: stage for stage, stride in enumerate(strides) if stage >= family.first_map}
    return tuple(last.values())


def stage_mixer(
    flags: Mapping[str, Any], config: BackboneConfig, stage: int, block: int, stride: int
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
        mixer["map_size"] = config.map_size(stride)
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
