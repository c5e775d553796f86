"""What makes a family of backbones: its block, and what stands around, between and after blocks."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from flax import nnx

from dwconv_jax.layers import BatchNorm, LayerNorm, PatchEmbed, PatchMerging
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.initializers import Initializer
from dwconv_jax.models.blocks.block import Block, BlockSpec
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.models.torch_layout import Layout, linear, norm


class Resample(Protocol):
    """A module that changes the stride: a stem or a downsampling layer."""

    def __call__(self, x: jax.Array, train: bool | None, canvas: Canvas, /) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`; `canvas` is that of `x`."""
        ...


class BuildBlock(Protocol):
    """A block's class, or a function that chooses one by the specification."""

    def __call__(self, spec: BlockSpec, *, rngs: nnx.Rngs) -> Block:
        """Returns the block."""
        ...


class BuildStem(Protocol):
    """Builds the stem; one with `out_features` unlike the first stage's width says so by it."""

    def __call__(self, config: BackboneConfig, *, rngs: nnx.Rngs) -> Resample:
        """Returns the stem."""
        ...


class BuildDownsample(Protocol):
    """Builds what leads from a stage to the next."""

    def __call__(
        self, features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
    ) -> Resample:
        """Returns the layer."""
        ...


class BuildNorm(Protocol):
    """Builds a module that is called as `BatchNorm` is: `module(x, train, valid)`."""

    def __call__(self, features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> Any:
        """Returns the norm."""
        ...


def patch_embed(config: BackboneConfig, *, rngs: nnx.Rngs) -> PatchEmbed:
    """Patches and layer norm (Swin)."""
    return PatchEmbed(
        config.in_channels, config.widths[0], config.patch_size, rngs=rngs, **config.dtypes
    )


def patch_merging(
    features: int, out_features: int, config: BackboneConfig, *, rngs: nnx.Rngs
) -> PatchMerging:
    """Layer norm of 2x2 neighbors, and a linear layer (Swin)."""
    return PatchMerging(features, out_features, rngs=rngs, **config.dtypes)


def layer_norm(features: int, config: BackboneConfig, *, rngs: nnx.Rngs) -> LayerNorm:
    """Layer norm."""
    return LayerNorm(features, rngs=rngs, **config.dtypes)


def batch_norm(
    features: int,
    config: BackboneConfig,
    *,
    epsilon: float = 1e-5,
    rngs: nnx.Rngs | None = None,
) -> BatchNorm:
    """Batch norm, whose parameters are not drawn: `rngs` is there because a `BuildNorm` has it."""
    group_size = config.batch_norm_group_size
    return BatchNorm(features, epsilon=epsilon, group_size=group_size, rngs=rngs, **config.dtypes)


def norm_and_head(classifier: Any) -> Layout:
    """`norm` before the mean over positions, and `head`, as most checkpoints have them."""
    yield from norm(classifier.norm, "norm")
    if classifier.head is not None:
        yield from linear(classifier.head, "head")


@dataclasses.dataclass(frozen=True)
class TorchLayout:
    """Which PyTorch checkpoints a family reads and writes.

    Attributes:
      body: the entries of a backbone, from the backbone and the side of its first map (0 where the
        checkpoint holds nothing for one size).
      top: the entries of a classifier beyond those.
      top_names: matches their names, for who loads a classifier into another model's backbone.
    """

    body: Callable[[Any, int], Layout]
    top: Callable[[Any], Layout] = norm_and_head
    top_names: re.Pattern[str] = re.compile(r"(norm|head)\.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """The parts of a family of backbones.

    Attributes:
      block: what stands around the locally connected layer.
      stem: images to the first stage, or to the first block of it.
      downsample: from one stage to the next; None where the first block of a stage does it.
      strides: of each stage over the one before, the first over the stem; the last entry stands
        for all that follow.
      first_map: the first stage whose map is among the `features`.
      stage_norm: at the end of each stage, if the family has one there.
      output_norm: of each map in dense prediction, which the next stage does not see.
      norm: of the last map in a classifier, before the mean over positions. A module that changes
        the width has `out_features`.
      neck: between that mean and the head, likewise.
      head_init: of the head's kernel; None for timm's usual normal distribution.
      dense: whether its maps serve segmentation and detection, at strides 4, 8, 16 and 32.
      layouts: of PyTorch checkpoints, by the name of their origin; `to_torch` writes the first.
    """

    block: BuildBlock
    stem: BuildStem = patch_embed
    downsample: BuildDownsample | None = patch_merging
    strides: tuple[int, ...] = (1, 2)
    first_map: int = 0
    stage_norm: BuildNorm | None = None
    output_norm: BuildNorm | None = layer_norm
    norm: BuildNorm | None = layer_norm
    neck: BuildNorm | None = None
    head_init: Initializer | None = None
    dense: bool = True
    layouts: Mapping[str, TorchLayout] = dataclasses.field(default_factory=dict)

    def stride(self, stage: int) -> int:
        """Of a stage over the one before."""
        return self.strides[min(stage, len(self.strides) - 1)]
