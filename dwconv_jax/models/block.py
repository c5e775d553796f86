"""What the blocks of all families share: what they are built from, padding, stochastic depth."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from flax import nnx

from dwconv_jax.layers import LocallyConnected, Mlp, SqueezeExcitation
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.patches import pad_to_multiple
from dwconv_jax.models.torch_layout import Layout
from dwconv_jax.ops.connectivity import Pair, as_pair


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """What a block is built from.

    Attributes:
      features: channels `C`.
      mixer: flags of its `LocallyConnected` layer.
      mlp_ratio: width of the MLP's hidden layer over `C`.
      drop_path_rate: of stochastic depth.
      batch_norm_group_size: see `BatchNorm`.
      pad_to_window: whether the map is zero-padded to a multiple of the window around the layer.
      squeeze_excitation: whether a gate for channels follows the layer.
      dtypes: `dtype` of the computation and `param_dtype`.
    """

    features: int
    mixer: Mapping[str, Any]
    mlp_ratio: float
    drop_path_rate: float
    batch_norm_group_size: int | None
    pad_to_window: bool
    squeeze_excitation: bool
    dtypes: Mapping[str, Any]

    @property
    def map_multiple(self) -> Pair:
        """What the sides of the map are padded to a multiple of."""
        kernel_size = self.mixer["kernel_size"]
        return as_pair("kernel_size", kernel_size, 1) if self.pad_to_window else (1, 1)

    def make_mixer(self, rngs: nnx.Rngs) -> LocallyConnected:
        """The locally connected layer."""
        return LocallyConnected(
            self.features,
            batch_norm_group_size=self.batch_norm_group_size,
            shrink_windows=not self.pad_to_window,
            rngs=rngs,
            **self.dtypes,
            **self.mixer,
        )

    def make_gate(self, rngs: nnx.Rngs) -> Any:
        """The gate for channels, or None."""
        if not self.squeeze_excitation:
            return nnx.data(None)
        return SqueezeExcitation(self.features, rngs=rngs, **self.dtypes)

    def make_mlp(self, rngs: nnx.Rngs) -> Mlp:
        """The MLP."""
        hidden = int(self.features * self.mlp_ratio)
        return Mlp(self.features, hidden, rngs=rngs, **self.dtypes)


class Block(Protocol):
    """A block of a backbone: a Flax module."""

    def __init__(self, spec: BlockSpec, *, rngs: nnx.Rngs) -> None: ...

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None, canvas: Canvas
    ) -> Any:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        ...

    @staticmethod
    def make_output_norm(
        features: int, *, group_size: int | None, rngs: nnx.Rngs, **dtypes: Any
    ) -> nnx.Module:
        """The norm of a stage's output in dense prediction, called as `BatchNorm` is."""
        ...

    def torch_layout(self, name: str, side: int) -> Layout:
        """The block's entries in the authors' checkpoints, under a name.

        Args:
          name: of the block.
          side: of the square map that the checkpoint is for; 0 where it holds nothing for one size.

        Raises:
          UserError: for a layer that the authors' code does not have.
        """
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
