"""What a backbone can be built with, whatever its family."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax.typing import Dtype

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity.sizes import as_pair, at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The overrides of `create_model` that concern the backbone.

    Attributes:
      embed_dim: channels of the first stage, which double with every stage; or those of each.
      depths: blocks of each stage.
      window_size: kernel or window size, one or one for each stage.
      mlp_ratio: width of the MLP's hidden layer over its input's, one or one for each stage.
      drop_path_rate: stochastic depth at the last block; it grows linearly from 0.
      in_channels: channels of the images.
      patch_size: stride of the stem.
      image_size: needed where the mixer's parameters depend on the map's size.
      batch_norm_group_size: see `BatchNorm`.
      remat: whether gradients keep only the inputs of blocks and recompute what is inside: less
        memory for more time; one value or one for each stage.
      squeeze_excitation: whether a gate for channels follows the layer of every block.
      dtype: of the computation; None keeps the input's.
      param_dtype: of the parameters.
    """

    embed_dim: int | Sequence[int] = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    window_size: int | Sequence[int] = 7
    mlp_ratio: float | Sequence[float] = 4.0
    drop_path_rate: float = 0.0
    in_channels: int = 3
    patch_size: int = 4
    image_size: int | tuple[int, int] | None = None
    batch_norm_group_size: int | None = None
    remat: bool | Sequence[bool] = False
    squeeze_excitation: bool = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        """Raises a UserError that names the first field outside its range."""
        for name in ("in_channels", "patch_size"):
            check_int(name, getattr(self, name), 1)
        if not isinstance(self.depths, (tuple, list)) or not self.depths:
            raise UserError(f"depths must be one int for each stage, got {self.depths!r}")
        for depth in self.depths:
            check_int("each of depths", depth, 0)
        for stage in range(len(self.depths)):
            check_int("embed_dim", self.at_stage("embed_dim", self.embed_dim, stage), 1)
            ratio = self.at_stage("mlp_ratio", self.mlp_ratio, stage)
            if not isinstance(ratio, (int, float)) or ratio <= 0:
                raise UserError(f"mlp_ratio must be a number above 0, got {ratio!r}")
            check_bool("remat", self.at_stage("remat", self.remat, stage))
        check_bool("squeeze_excitation", self.squeeze_excitation)
        check_rate("drop_path_rate", self.drop_path_rate)
        if self.image_size is not None:
            as_pair("image_size", self.image_size, 1)
        for name in ("dtype", "param_dtype"):
            check_float_dtype(name, getattr(self, name))
        if self.batch_norm_group_size is not None:
            check_int("batch_norm_group_size", self.batch_norm_group_size, 1)

    @property
    def dtypes(self) -> dict[str, Any]:
        """Keyword arguments of layers."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        if isinstance(self.embed_dim, int):
            return tuple(self.embed_dim * 2**i for i in range(len(self.depths)))
        return tuple(self.embed_dim)

    def map_size(self, stride: int) -> tuple[int, int] | None:
        """Height and width of a map at a stride, if `image_size` is given."""
        if self.image_size is None:
            return None
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
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


def check_int(name: str, value: Any, minimum: int) -> None:
    """Raises a UserError unless `value` is an int of at least the minimum."""
    if not at_least(minimum)(value):
        raise UserError(f"{name} must be an int >= {minimum}, got {value!r}")


def check_bool(name: str, value: Any) -> None:
    """Raises a UserError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be True or False, got {value!r}")


def check_float_dtype(name: str, value: Any) -> None:
    """Raises a UserError unless `value` is a floating dtype, its name or None."""
    try:
        legal = value is None or jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        legal = False
    if not legal:
        raise UserError(f"{name} must be a floating dtype such as 'bfloat16', got {value!r}")


def check_rate(name: str, value: Any) -> None:
    """Raises a UserError unless `value` is a number from 0 to below 1."""
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UserError(f"{name} must be a number from 0 to below 1, got {value!r}")
