"""Static weights: parameters of the layer."""

import jax
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.initializers import conv_init
from dwconv_jax.layers.weights.source import SourceSpec, Traits


class StaticWeights(nnx.Module):
    """The weights are parameters, `kernel[N or 1, Q, K, G]`."""

    traits = Traits(dynamic=False, bias_init=conv_init)

    def __init__(self, spec: SourceSpec, *, rngs: nnx.Rngs):
        shape = spec.shape()
        self.dtype = spec.dtype
        self.kernel = nnx.Param(conv_init(spec.taps)(rngs.params(), shape, spec.param_dtype))

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, jax.Array]:
        """The kernel `[1, N or 1, Q, K, G]`, and `x[B, *spatial, C]` as values."""
        return self.kernel[...].astype(self.dtype or x.dtype)[None], x

    def scale_channels(self, scale: jax.Array) -> bool:
        """Multiplies the weights of each channel by `scale[C]`, if each has weights of its own."""
        if self.kernel.shape[-1] != len(scale):
            return False
        self.kernel[...] *= scale[None, None, None]
        return True
