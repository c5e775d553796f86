"""The block of most transformers: norm and layer, norm and MLP."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers import LayerNorm, LocallyConnected
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.initializers import full
from dwconv_jax.layers.mode import is_training
from dwconv_jax.models.blocks.block import BlockSpec, DropPath, on_padded


class TransformerBlock(nnx.Module):
    """Layer norm and layer; then layer norm and MLP.

    A squeeze-excitation gate, where there is one, follows the layer.
    """

    def __init__(
        self,
        spec: BlockSpec,
        *,
        mixer: Any = None,
        epsilon: float = 1e-5,
        layer_scale: float | None = None,
        rngs: nnx.Rngs,
    ):
        """Creates the block.

        Args:
          spec: what it is built from.
          mixer: the layer, called as `LocallyConnected` is; None for that of the specification.
          epsilon: of the norms.
          layer_scale: initial scale of each channel of what the layer and the MLP return; None for
            no scales.
          rngs: initialization keys.
        """
        norm = functools.partial(
            LayerNorm, spec.features, epsilon=epsilon, rngs=rngs, **spec.dtypes
        )
        self.norm_mixer = norm()
        self.mixer: Any = spec.make_mixer(rngs) if mixer is None else mixer
        self.gate = spec.make_gate(rngs)
        self.norm_mlp = norm()
        self.mlp = self.make_mlp(spec, rngs)
        self.scales: Any = nnx.data(None)
        if layer_scale is not None:
            # Of the layer's channels, then of the MLP's.
            scales = full(2 * spec.features, layer_scale, spec.config.param_dtype)
            self.scales = nnx.Param(scales)
        self.drop_path = DropPath(spec.drop_path_rate, rngs=rngs)
        # Layers of a family's own pad by themselves where they must.
        own = not isinstance(self.mixer, LocallyConnected)
        self.map_multiple = (1, 1) if own else spec.map_multiple

    def __call__(
        self, x: jax.Array, train: bool | None, rngs: nnx.Rngs | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, C]`."""
        training = is_training(train, self.drop_path.deterministic)
        y = self.mix(canvas.clear(self.norm_mixer(x)), train, canvas)
        y = self._scaled(y if self.gate is None else self.gate(y, canvas), 0)
        x = x + self.drop_path(y, deterministic=not training, rngs=rngs)
        y = self._scaled(self.feed_forward(self.norm_mlp(x), canvas), 1)
        return x + self.drop_path(y, deterministic=not training, rngs=rngs)

    def make_mlp(self, spec: BlockSpec, rngs: nnx.Rngs) -> Any:
        """The module that `feed_forward` applies."""
        return spec.make_mlp(rngs)

    def mix(self, x: jax.Array, train: bool | None, canvas: Canvas) -> jax.Array:
        """The layer, on a map zero-padded as dense prediction may want it."""
        return on_padded(self.mixer, x, train, canvas, self.map_multiple)

    def feed_forward(self, x: jax.Array, canvas: Canvas) -> jax.Array:
        """The MLP."""
        del canvas
        return self.mlp(x)

    def _scaled(self, y: jax.Array, branch: int) -> jax.Array:
        if self.scales is None:
            return y
        scale = jnp.split(self.scales[...], 2)[branch]
        return y * scale.astype(y.dtype)[None, None, None]
