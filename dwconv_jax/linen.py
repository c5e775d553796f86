"""The same layer and models for Flax Linen projects, with clean `params` and `batch_stats` trees.

    layer = dwconv_jax.linen.LocallyConnected(96, dynamic="pooled")
    variables = layer.init(jax.random.key(0), x)
    y, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])

The modules work inside a Linen parent like any other. Stochastic depth draws from the `dropout`
keys.
"""

from typing import Any

from flax import linen as nn
from flax.core import FrozenDict
from flax.nnx import bridge

from dwconv_jax import layers, models
from dwconv_jax.models.registry import find_variant


class _Modules:
    """Linen names a submodule after its class: `LocallyConnected_0` in a tree of parameters."""

    class LocallyConnected(bridge.ToLinen):
        """The layer."""

    class DepthwiseConv(bridge.ToLinen):
        """Depth-wise convolution."""

    class Classifier(bridge.ToLinen):
        """A model for classification."""

    class UPerNet(bridge.ToLinen):
        """A model for segmentation."""

    class CascadeMaskRCNN(bridge.ToLinen):
        """A model for detection."""


def LocallyConnected(features: int, *, name: str | None = None, **flags: Any) -> nn.Module:  # noqa: N802
    """`dwconv_jax.LocallyConnected` as a Linen module; the flags are the same."""
    return _Modules.LocallyConnected(
        layers.LocallyConnected, (features,), FrozenDict(flags), name=name
    )


def DepthwiseConv(features: int, *, name: str | None = None, **options: Any) -> nn.Module:  # noqa: N802
    """`dwconv_jax.DepthwiseConv` as a Linen module; the options are the same."""
    return _Modules.DepthwiseConv(layers.DepthwiseConv, (features,), FrozenDict(options), name=name)


def create_model(model: str, *, name: str | None = None, **overrides: Any) -> nn.Module:
    """`dwconv_jax.create_model` as a Linen module; `name` is the Linen module's.

    Raises:
      UserError: for an unknown model.
    """
    module = getattr(_Modules, find_variant(model)[1].__name__)
    return module(models.create_model, (model,), FrozenDict(overrides), name=name)
