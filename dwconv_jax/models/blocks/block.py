"""What the blocks of all families share: what they are built from, padding, stochastic depth."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from flax import nnx

from dwconv_jax.layers import LocallyConnected, Mlp, SqueezeExcitation
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.patches import pad_to_multiple
from dwconv_jax.models.config import BackboneConfig
from dwconv_jax.ops.connectivity import Pair, as_pair


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """What a block is built from.

    Attributes:
      config: of the backbone.
      stage: the block's stage, counted from 0.
      index: its place in the stage, counted from 0.
      in_features: channels of its input.
      features: channels `C` of its output; those of the input unless the block downsamples.
      stride: of its output over its input.
      mixer: flags of its `LocallyConnected` layer.
      drop_path_rate: of stochastic depth.
      pad_to_window: whether the map is zero-padded to a multiple of the window around the layer.
    """

    config: BackboneConfig
    stage: int = 0
    index: int = 0
    in_features: int
    features: int
    stride: int = 1
    mixer: Mapping[str, Any]
    drop_path_rate: float = 0.0
    pad_to_window: bool = False

    @property
    def dtypes(self) -> dict[str, Any]:
        """`dtype` of the computation and `param_dtype`, as arguments of layers."""
        return self.config.dtypes

    @property
    def map_multiple(self) -> Pair:
        """What the sides of the map are padded to a multiple of."""
        kernel_size = self.mixer["kernel_size"]
        return as_pair("kernel_size", kernel_size, 1) if self.pad_to_window else (1, 1)

    def make_mixer(self, rngs: nnx.Rngs, **flags: Any) -> LocallyConnected:
        """The locally connected layer, with some flags other than the specification's."""
        return LocallyConnected(
            **{
                "features": self.features,
                "batch_norm_group_size": self.config.batch_norm_group_size,
                "shrink_windows": not self.pad_to_window,
                **self.dtypes,
                **self.mixer,
                **flags,
            },
            rngs=rngs,
        )

    def make_gate(self, rngs: nnx.Rngs) -> Any:
        """The gate for channels, or None."""
        if not self.config.squeeze_excitation:
            return nnx.data(None)
        return SqueezeExcitation(self.features, rngs=rngs, **self.dtypes)

    def make_mlp(self, rngs: nnx.Rngs) -> Mlp:
        """The MLP."""
        ratio = self.config.at_stage("mlp_ratio", self.config.mlp_ratio, self.stage)
        return Mlp(self.features, int(self.features * ratio), rngs=rngs, **self.dtypes)


class Block(Protocol):
    """A block of a backbone: a Flax module."""

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None, canvas: Canvas
    ) -> jax.Array:
        """`[B, H, W, C_in]` to `[B, ceil(H / s), ceil(W / s), C]`; `canvas` is that of `x`."""
        ...


class DropPath(nnx.Dropout):
    """Stochastic depth: drops the whole branch of a sample, and scales what it keeps."""

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        super().__init__(
            rate, broadcast_dims=(1, 2, 3), deterministic=True, rngs=rngs if rate else None
        )


def on_padded(
    branch: Callable[[jax.Array, bool | None, Canvas], jax.Array],
    x: jax.Array,
    train: bool | None,
    canvas: Canvas,
    multiple: Pair,
) -> jax.Array:
    """`branch(x, train, canvas)` on the map zero-padded to multiples, and cropped after."""
    y = branch(pad_to_multiple(x, multiple), train, canvas.padded(multiple))
    return y[:, : x.shape[1], : x.shape[2]]
