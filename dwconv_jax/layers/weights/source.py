"""What a weight source is: the protocol, its traits, and what it is built from."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.initializers import Initializer
from dwconv_jax.ops.connectivity import Connectivity, Size


@dataclasses.dataclass(frozen=True)
class Traits:
    """What `LocallyConnected` must know of a weight source.

    Attributes:
      dynamic: whether each image has weights of its own.
      per_position: whether weights differ at every position, so that blocks cannot share them.
      any_block: whether it makes weights for blocks of any size, so that windows may shrink.
      scaled_by_block: whether the weights depend on how large a block is, not only on what lies in
        it.
      bias_init: initializes a bias for each channel behind the operator, given `K`; None for no
        bias.
      projection: whether a linear layer follows the operator.
      values_kernel_size: of a depth-wise convolution of the values that is added to what the
        operator returns, one int for each axis; None for none.
    """

    dynamic: bool = True
    per_position: bool = False
    any_block: bool = False
    scaled_by_block: bool = False
    bias_init: Callable[[int], Initializer] | None = None
    projection: bool = False
    values_kernel_size: Size | None = None


class WeightSource(Protocol):
    """A Flax module that makes the weights of a locally connected layer.

    A class attribute `traits` says how the layer treats it; without one, `Traits()` applies.
    """

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, jax.Array]:
        """Weights and values.

        Args:
          x: features, `[B, *spatial, C]`; zero where they do not count.
          train: whether to use batch statistics, if there are any; to pass on to norms and dropout.
            None follows the mode of the model.
          canvas: which part of each map counts: `canvas.mean(x)` is the pooled feature. `x` is
            rolled already where that is the canvas's business (`canvas.rolled`).

        Returns:
          The weights `[B or 1, N or 1, Q, K, G]` of `ops.locally_connected`, and the values that
          they mix, `[B, *spatial, C]`: `x` itself, or a projection of it.
        """
        ...


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """What a weight source is built from: the flags of its layer.

    Attributes:
      features: channels `C`.
      groups: `G`.
      connectivity: which positions connect.
      share_positions: whether blocks share weights; None for True.
      map_size: of the input, one int for each axis; None where nothing depends on it.
      reduction: how much narrower the hidden layer that predicts weights is.
      batch_norm_group_size: see `BatchNorm`.
      dtype: of the computation; None keeps the input's.
      param_dtype: of the parameters.
      dynamic: the name of the source, for errors.
    """

    features: int
    groups: int
    connectivity: Connectivity
    share_positions: bool | None
    map_size: Size | None
    reduction: int
    batch_norm_group_size: int | None
    dtype: Any
    param_dtype: Any
    dynamic: str

    @property
    def dtypes(self) -> dict[str, Any]:
        """Keyword arguments of the layers inside."""
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    @property
    def hidden_features(self) -> int:
        """Width of the hidden layer that predicts weights."""
        return max(1, self.features // self.reduction)

    @property
    def taps(self) -> int:
        """`K`."""
        return self._block_shape()[2]

    def shape(self) -> tuple[int, int, int, int]:
        """`(N or 1, Q, K, G)` of weights that blocks share, unless `share_positions` is False.

        Raises:
          UserError: if it depends on a map size that is not given.
        """
        blocks, outputs, seen = self._block_shape()
        if self.share_positions is not False:
            return 1, outputs, seen, self.groups
        if self.map_size is None:
            raise self._without_map_size(f"dynamic={self.dynamic!r} with share_positions=False")
        return blocks, outputs, seen, self.groups

    @property
    def num_axes(self) -> int:
        """Of the maps: the connectivity's or those of `map_size`; two if neither says."""
        return self.connectivity.num_axes or len(self.map_size or (1, 1))

    @property
    def any_size(self) -> Size:
        """`map_size`, or some size where the shape of blocks does not depend on it.

        Raises:
          UserError: if it does, and `map_size` is not given.
        """
        if self.map_size is None and not self.connectivity.fixed_blocks:
            raise self._without_map_size(f"connectivity={self.connectivity}")
        return self.map_size or (1,) * self.num_axes

    def _without_map_size(self, what: str) -> UserError:
        axes = {1: "(L,)", 2: "(H, W)", 3: "(D, H, W)"}[self.num_axes]
        return UserError(
            f"map_size must be {axes}, got None: {what} has parameters for each place of a map"
        )

    def _block_shape(self) -> tuple[int, int, int]:
        return self.connectivity.block_shape(*self.any_size)


BuildSource = Callable[..., nnx.Module]
