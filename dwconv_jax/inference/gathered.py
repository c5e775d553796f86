"""Sliding kernels that differ between images or positions, as one gather and one sum.

The lowerings that JAX runs unroll their taps or loop over them, which makes long programs for other
runtimes. Gathering takes `K` times the memory of a map, for one layer at a time.
"""

import dataclasses
from typing import TypeVar

import jax
from flax import nnx

from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.dispatch import Strategy, register
from dwconv_jax.ops.lowerings import gather, sliding, taps

ModelT = TypeVar("ModelT", bound=nnx.Module)


class GatheredSliding(Sliding):
    """`Sliding`, computed by gathering unless it is a convolution."""


def gather_neighborhoods(model: ModelT) -> ModelT:
    """Returns a copy of a model that computes the same, with its sliding kernels gathered."""
    copy = nnx.clone(model)
    modules: list[nnx.Module] = [module for _, module in nnx.iter_modules(copy)]
    for module in modules:
        connectivity = getattr(module, "connectivity", None)
        if type(connectivity) is Sliding:
            fields = {f.name: getattr(connectivity, f.name) for f in dataclasses.fields(Sliding)}
            module.connectivity = GatheredSliding(**fields)  # type: ignore[attr-defined]
    return copy


def _mix(x: jax.Array, weights: jax.Array, connectivity: Sliding) -> jax.Array:
    copies, blocks, outputs, _, groups = weights.shape
    if copies == blocks == 1:
        return sliding.mix(x, weights, connectivity)
    if outputs > 1:
        return gather.mix(x, weights, connectivity)
    *_, channels = x.shape
    seen = gather.take(x, connectivity.neighbours(*x.shape[1:-1])[:, 0])  # [B, N, K, C]
    seen = seen.reshape(*seen.shape[:3], groups, channels // groups)
    return (seen * weights[:, :, 0, :, :, None]).sum(2).reshape(x.shape)


register(GatheredSliding, Strategy(_mix, gather.logits, taps.partition, taps.merge))
