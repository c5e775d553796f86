"""The feature pyramid network (Lin et al., 2017): every level sees what coarser levels know."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.canvas import keep_inside


class FeaturePyramid(nnx.Module):
    """Maps of a backbone to maps of one width, and one level more that skips every second place."""

    def __init__(self, widths: Sequence[int], features: int, *, rngs: nnx.Rngs, **dtypes: Any):
        arguments: dict[str, Any] = dict(
            kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs, **dtypes
        )
        self.laterals = nnx.List([nnx.Linear(width, features, **arguments) for width in widths])
        self.outputs = nnx.List([nnx.Conv(features, features, (3, 3), **arguments) for _ in widths])

    def __call__(
        self, maps: Sequence[jax.Array], extents: Sequence[jax.Array]
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """The pyramid of maps whose sides halve exactly.

        Args:
          maps: of the backbone, finest first, `[B, H_l, W_l, C_l]`.
          extents: int `[B, 2]` for each map: the part of it that counts.

        Returns:
          The levels `[B, H_l, W_l, features]` and their extents, one more than `maps`; levels are
          0 beyond their extents.
        """
        coarser: jax.Array | None = None
        levels: list[jax.Array] = []
        for lateral, output, x, extent in reversed(
            list(zip(self.laterals, self.outputs, maps, extents, strict=True))
        ):
            x = lateral(x)
            if coarser is not None:
                x = x + coarser.repeat(2, axis=1).repeat(2, axis=2)
            coarser = keep_inside(x, extent)
            levels.insert(0, keep_inside(output(coarser), extent))
        return (*levels, levels[-1][:, ::2, ::2]), (*extents, -(-extents[-1] // 2))
