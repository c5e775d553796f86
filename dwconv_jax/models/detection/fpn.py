"""The feature pyramid network (Lin et al., 2017): coarse features flow into finer levels."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.convolution import convolve
from dwconv_jax.layers.dtypes import keep_input_dtype
from dwconv_jax.layers.initializers import xavier_uniform
from dwconv_jax.models.torch_layout import Layout, conv, conv1x1


class FeaturePyramid(nnx.Module):
    """Projects the maps of a backbone to one width; adds the coarsest map subsampled by 2."""

    def __init__(self, widths: Sequence[int], features: int, *, rngs: nnx.Rngs, **dtypes: Any):
        arguments: dict[str, Any] = dict(
            kernel_init=xavier_uniform,
            promote_dtype=keep_input_dtype,
            rngs=rngs,
            **dtypes,
        )
        self.laterals = nnx.List([nnx.Linear(width, features, **arguments) for width in widths])
        arguments |= dict(conv_general_dilated=convolve)
        self.outputs = nnx.List([nnx.Conv(features, features, (3, 3), **arguments) for _ in widths])

    def __call__(
        self, maps: Sequence[jax.Array], canvases: Sequence[Canvas]
    ) -> tuple[tuple[jax.Array, ...], tuple[Canvas, ...]]:
        """Builds the pyramid from maps whose sides halve exactly.

        Args:
          maps: of the backbone, finest first, `[B, H_l, W_l, C_l]`.
          canvases: which part of each map counts.

        Returns:
          The levels `[B, H_l, W_l, features]` and their canvases, one more than `maps`; levels are
          0 beyond what counts.
        """
        coarser: jax.Array | None = None
        levels: list[jax.Array] = []
        for lateral, output, x, canvas in reversed(
            list(zip(self.laterals, self.outputs, maps, canvases, strict=True))
        ):
            x = lateral(x)
            if coarser is not None:
                x = x + coarser.repeat(2, axis=1).repeat(2, axis=2)
            coarser = canvas.clear(x)
            levels.insert(0, canvas.clear(output(coarser)))
        return (*levels, levels[-1][:, ::2, ::2]), (*canvases, canvases[-1].strided(2))

    def torch_layout(self) -> Layout:
        """The entries of mmdet's checkpoints."""
        for i, lateral in enumerate(self.laterals):
            yield from conv1x1(lateral, f"lateral_convs.{i}.conv")
        for i, output in enumerate(self.outputs):
            yield from conv(output, f"fpn_convs.{i}.conv")
