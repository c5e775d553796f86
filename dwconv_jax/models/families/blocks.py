"""The two blocks of the paper: what stands around a locally connected layer.

Both add a spatial part and an MLP to the residual stream. The depth-wise block wraps the layer in
1x1 convolutions and batch norms; the Swin block only normalises its input. In either a
squeeze-excitation gate may follow the layer: in the depth-wise block its norm and ReLU.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers import BatchNorm, LocallyConnected, Mlp, SqueezeExcitation, pointwise
from dwconv_jax.layers.canvas import inside, keep_inside, round_up
from dwconv_jax.layers.patches import pad_to_multiple
from dwconv_jax.ops.connectivity import as_pair


class DropPath(nnx.Dropout):
    """Stochastic depth: drops the whole branch of a sample, and scales what it keeps."""

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        super().__init__(rate, broadcast_dims=(1, 2, 3), rngs=rngs if rate else None)


class DWBlock(nnx.Module):
    """DWNet's block: 1x1, norm, ReLU, layer, norm, ReLU, 1x1, norm; then norm and MLP."""

    def __init__(
        self,
        features: int,
        *,
        mixer: Mapping[str, Any],
        mlp_ratio: float,
        drop_path: float,
        batch_norm_group_size: int | None,
        pad_to_window: bool = False,
        squeeze_excitation: bool = False,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        def norm() -> BatchNorm:
            return BatchNorm(features, group_size=batch_norm_group_size, **dtypes)

        self.pointwise_in = pointwise(features, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm_in = norm()
        self.mixer = LocallyConnected(
            features,
            batch_norm_group_size=batch_norm_group_size,
            shrink_windows=not pad_to_window,
            rngs=rngs,
            **dtypes,
            **mixer,
        )
        self.norm_mixer = norm()
        self.gate = _gate(features, squeeze_excitation, rngs=rngs, **dtypes)
        self.pointwise_out = pointwise(features, features, use_bias=False, rngs=rngs, **dtypes)
        self.norm_out = norm()
        self.norm_mlp = norm()
        self.mlp = Mlp(features, int(features * mlp_ratio), rngs=rngs, **dtypes)
        self.drop_path = DropPath(drop_path, rngs=rngs)
        self.map_multiple = _map_multiple(mixer, pad_to_window)

    def __call__(
        self,
        x: jax.Array,
        train: bool,
        rngs: nnx.Rngs | None = None,
        extent: jax.Array | None = None,
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`; with an extent, zero in and out beyond it."""
        y = pad_to_multiple(x, self.map_multiple)
        padded = round_up(extent, self.map_multiple)
        valid = None if padded is None else inside(padded, y.shape[1:3])
        y = jax.nn.relu(self.norm_in(self.pointwise_in(y), train, valid))
        y = self.mixer(keep_inside(y, padded), train, padded)
        y = jax.nn.relu(self.norm_mixer(y, train, valid))
        y = y if self.gate is None else self.gate(y, padded)
        y = crop(self.norm_out(self.pointwise_out(y), train, valid), x)
        x = x + self.drop_path(y, deterministic=not train, rngs=rngs)
        valid = None if extent is None else inside(extent, x.shape[1:3])
        y = self.mlp(self.norm_mlp(x, train, valid))
        return keep_inside(x + self.drop_path(y, deterministic=not train, rngs=rngs), extent)


class SwinBlock(nnx.Module):
    """Swin's block: layer norm and layer; then layer norm and MLP."""

    def __init__(
        self,
        features: int,
        *,
        mixer: Mapping[str, Any],
        mlp_ratio: float,
        drop_path: float,
        batch_norm_group_size: int | None,
        pad_to_window: bool = False,
        squeeze_excitation: bool = False,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.norm_mixer = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs, **dtypes)
        self.mixer = LocallyConnected(
            features,
            batch_norm_group_size=batch_norm_group_size,
            shrink_windows=not pad_to_window,
            rngs=rngs,
            **dtypes,
            **mixer,
        )
        self.gate = _gate(features, squeeze_excitation, rngs=rngs, **dtypes)
        self.norm_mlp = nnx.LayerNorm(features, epsilon=1e-5, rngs=rngs, **dtypes)
        self.mlp = Mlp(features, int(features * mlp_ratio), rngs=rngs, **dtypes)
        self.drop_path = DropPath(drop_path, rngs=rngs)
        self.map_multiple = _map_multiple(mixer, pad_to_window)

    def __call__(
        self,
        x: jax.Array,
        train: bool,
        rngs: nnx.Rngs | None = None,
        extent: jax.Array | None = None,
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`; with an extent, zero in and out beyond it."""
        y = pad_to_multiple(keep_inside(self.norm_mixer(x), extent), self.map_multiple)
        y = crop(self.mixer(y, train, round_up(extent, self.map_multiple)), x)
        y = y if self.gate is None else self.gate(y, extent)
        x = x + self.drop_path(y, deterministic=not train, rngs=rngs)
        y = self.mlp(self.norm_mlp(x))
        return keep_inside(x + self.drop_path(y, deterministic=not train, rngs=rngs), extent)


def crop(y: jax.Array, x: jax.Array) -> jax.Array:
    """Takes off what padding added right and bottom: `y` in the height and width of `x`."""
    return y[:, : x.shape[1], : x.shape[2]]


def _gate(features: int, wanted: bool, **options: Any) -> SqueezeExcitation | None:
    return SqueezeExcitation(features, **options) if wanted else nnx.data(None)


def _map_multiple(mixer: Mapping[str, Any], pad_to_window: bool) -> tuple[int, int]:
    return as_pair("kernel_size", mixer["kernel_size"], 1) if pad_to_window else (1, 1)


BLOCKS = {"dw": DWBlock, "swin": SwinBlock}
