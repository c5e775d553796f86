"""Causal short convolution and its gradients by the compiled kernel (`short_conv.cc`)."""

import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from dwconv_jax.ops.lowerings.cpu.kernel import is_usable as is_usable

Arrays = tuple[jax.Array, ...]
_FORWARD, _GRADIENTS = "DwconvShortConv", "DwconvShortConvGradients"


class Inputs(Protocol):
    """The inputs of `short_conv.short_conv`, float32, with a kernel `[1 or B, 1, K, C]`."""

    x: jax.Array
    kernel: jax.Array
    bias: jax.Array
    state: jax.Array


def convolve(inputs: Inputs, visible: jax.Array | None, *, silu: bool) -> jax.Array:
    """Computes `short_conv.short_conv`."""
    (y,) = _call(_FORWARD, silu)(*_operands(inputs, visible))
    return y


def gradients(inputs: Inputs, g: jax.Array, visible: jax.Array | None, silu: bool) -> Arrays:
    """Computes the gradients of `convolve` with respect to its inputs, given that of its result."""
    x_gradient, taps, state = _call(_GRADIENTS, silu)(*_operands(inputs, visible), g)
    kernel, bias = taps[:, None, :-1], taps[:, -1]  # of each sequence
    if len(inputs.kernel) == 1:
        kernel = kernel.sum(0, keepdims=True)
    return x_gradient, kernel, bias.sum(0), state


def _operands(inputs: Inputs, visible: jax.Array | None) -> Arrays:
    """The arrays that the kernel takes: the bias is one more tap, `visible` is always an array."""
    x, kernel, taps = inputs.x, inputs.kernel[:, 0], inputs.kernel.shape[2]
    bias = jnp.broadcast_to(inputs.bias, (len(kernel), 1, x.shape[-1]))
    kernel = jnp.concatenate([kernel, bias], axis=1)
    if visible is None:
        visible = jnp.full(x.shape[:2], taps, jnp.int32)
    return x, kernel, inputs.state, visible


@functools.cache
def _call(target: str, silu: bool) -> custom_vmap:
    """Maps operands to results; all have an axis for sequences, to which vmap adds."""

    @custom_vmap
    def call(x: jax.Array, taps: jax.Array, *others: jax.Array) -> Arrays:
        return _partitioned(target, silu)(x, taps, *others)

    @call.def_vmap
    def call_mapped(size: int, mapped: list[bool], *arrays: jax.Array) -> tuple[Arrays, Any]:
        batch = arrays[0].shape[1] if mapped[0] else len(arrays[0])

        def merged(array: jax.Array, is_mapped: bool) -> jax.Array:
            array = array if is_mapped else array[None]
            array = jnp.broadcast_to(array, (size, batch, *array.shape[2:]))
            return array.reshape(size * batch, *array.shape[2:])

        x, taps, *others = map(merged, arrays, mapped)
        static = not mapped[1] and len(arrays[1]) == 1
        results = call(x, arrays[1] if static else taps, *others)
        split = tuple(result.reshape(size, batch, *result.shape[1:]) for result in results)
        return split, (True,) * len(split)

    return call


@functools.cache
def _partitioned(target: str, silu: bool) -> custom_partitioning:
    """The call on devices, which may split sequences and channels: both are independent."""

    def call(x: jax.Array, taps: jax.Array, state: jax.Array, *others: jax.Array) -> Arrays:
        shapes = [x.shape]
        if target == _GRADIENTS:
            shapes += [(len(x), *taps.shape[1:]), state.shape]
        results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
        return tuple(jax.ffi.ffi_call(target, results)(x, taps, state, *others, silu=silu))

    def sharding_rule(mesh: Any, arguments: Any, results: Any):
        x, taps, *_ = (a.shape for a in arguments)
        of_taps = "b" if taps[0] == x[0] else "o"
        rule = f"b l c, {of_taps} k c, b s c, b l -> b l c"
        if target == _GRADIENTS:
            rule = rule.replace(" ->", ", b l c ->") + ", b k c, b s c"
        return rule, {"need_replication_factors": ("l", "k", "s")}

    def partition(mesh: Any, arguments: Any, results: Any):
        batch, _, channels = (*results[0].sharding.spec, None, None, None)[:3]

        def split(array: Any) -> NamedSharding:
            sequences = batch if array.shape[0] == results[0].shape[0] else None
            rest = (None, channels) if array.ndim == 3 else (None,)
            return NamedSharding(mesh, PartitionSpec(sequences, *rest))

        return mesh, call, tuple(map(split, results)), tuple(map(split, arguments))

    partitioned = custom_partitioning(call)
    partitioned.def_partition(partition, sharding_rule=sharding_rule)
    return partitioned
