"""What a backbone can be built with, whatever its family."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax.typing import Dtype

from dwconv_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The overrides of `create_model` that concern the backbone.

    Attributes:
      embed_dim: channels of the first stage; stage `i` has `embed_dim * 2**i`.
      depths: blocks of each stage.
      window_size: kernel or window size, one or one for each stage.
      mlp_ratio: width of the MLP's hidden layer over its input's.
      drop_path_rate: stochastic depth at the last block; it grows linearly from 0.
      in_channels: channels of the images.
      patch_size: stride of the first stage.
      image_size: needed where the mixer's parameters depend on the map's size.
      batch_norm_group_size: see `BatchNorm`.
      remat: whether gradients keep only the inputs of blocks and recompute what is inside: less
        memory for more time; one value or one for each stage.
      squeeze_excitation: whether a gate for channels follows the layer of every block.
      dtype: of the computation; None keeps the input's.
      param_dtype: of the parameters.
    """

    embed_dim: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    window_size: int | Sequence[int] = 7
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    in_channels: int = 3
    patch_size: int = 4
    image_size: int | tuple[int, int] | None = None
    batch_norm_group_size: int | None = None
    remat: bool | Sequence[bool] = False
    squeeze_excitation: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @property
    def dtypes(self) -> dict[str, Any]:
        """Keyword arguments of layers."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.embed_dim * 2**i for i in range(len(self.depths)))

    def map_size(self, stage: int) -> tuple[int, int] | None:
        """Height and width of a stage's map, if `image_size` is given."""
        if self.image_size is None:
            return None
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        stride = self.patch_size * 2**stage
        return -(-height // stride), -(-width // stride)

    def at_stage(self, name: str, value: Any, stage: int) -> Any:
        """The value of an argument that may hold one for each stage; UserError names it."""
        if not isinstance(value, (tuple, list)):
            return value
        if len(value) != len(self.depths):
            raise UserError(
                f"{name}={value!r} must be one value or one for each of {len(self.depths)} stages"
            )
        return value[stage]


def check_num_classes(num_classes: int, minimum: int = 1) -> None:
    """UserError below the minimum."""
    if num_classes < minimum:
        raise UserError(f"num_classes must be at least {minimum}, got {num_classes}")
