"""The same layer and models for Flax Linen projects, with clean `params` and `batch_stats` trees.

    layer = dwconv_jax.linen.LocallyConnected(96, dynamic="pooled")
    variables = layer.init(jax.random.key(0), x)
    y, updates = layer.apply(variables, x, train=True, mutable=["batch_stats"])

The modules work inside a Linen parent as any other. Stochastic depth draws from the `dropout` keys.
"""

from typing import Any

from flax import linen as nn
from flax.nnx import bridge

from dwconv_jax import layers, models


def LocallyConnected(features: int, *, name: str | None = None, **flags: Any) -> nn.Module:  # noqa: N802
    """`dwconv_jax.LocallyConnected` as a Linen module; the flags are the same."""
    return bridge.to_linen(layers.LocallyConnected, features, name=name, **flags)


def DepthwiseConv(features: int, *, name: str | None = None, **options: Any) -> nn.Module:  # noqa: N802
    """`dwconv_jax.DepthwiseConv` as a Linen module; the options are the same."""
    return bridge.to_linen(layers.DepthwiseConv, features, name=name, **options)


def create_model(model: str, *, name: str | None = None, **overrides: Any) -> nn.Module:
    """`dwconv_jax.create_model` as a Linen module; `name` is the Linen module's."""
    return bridge.to_linen(models.create_model, model, name=name, **overrides)
