"""Causal short convolution and its gradients by the compiled kernel (`short_conv.cc`)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

Arrays = tuple[jax.Array, ...]
_FORWARD, _GRADIENTS = "DwconvShortConv", "DwconvShortConvGradients"


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    state: jax.Array,
    visible: jax.Array | None,
    *,
    silu: bool,
) -> jax.Array:
    """Computes `short_conv.short_conv`.

    Args:
      x: float32 `[B, L, C]`.
      kernel: float32 `[1 or B, 1, K, C]`.
      bias: float32 `[C]`.
      state: float32 `[B, K - 1, C]`.
      visible: int32 `[B, L]` or None.
      silu: whether to apply SiLU.

    Returns:
      float32 `[B, L, C]`.
    """
    (y,) = _call(_FORWARD, silu)(x, _taps(x, kernel, bias), state, _counts(x, kernel, visible))
    return y


def gradients(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    state: jax.Array,
    visible: jax.Array | None,
    g: jax.Array,
    *,
    silu: bool,
) -> Arrays:
    """Computes the gradients of `convolve` in `x`, `kernel`, `bias` and `state`, in one pass.

    Args:
      x: as for `convolve`.
      kernel: as for `convolve`.
      bias: as for `convolve`.
      state: as for `convolve`.
      visible: as for `convolve`.
      g: float32 `[B, L, C]`, the cotangent of its result.
      silu: as for `convolve`.
    """
    operands = x, _taps(x, kernel, bias), state, _counts(x, kernel, visible), g
    x_gradient, taps_gradient, state_gradient = _call(_GRADIENTS, silu)(*operands)
    kernel_gradient, bias_gradient = taps_gradient[:, None, :-1], taps_gradient[:, -1].sum(0)
    if len(kernel) == 1:
        kernel_gradient = kernel_gradient.sum(0, keepdims=True)
    return x_gradient, kernel_gradient, bias_gradient, state_gradient


def _taps(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """`[1 or B, K + 1, C]`: the bias is one more tap."""
    bias = jnp.broadcast_to(bias, (len(kernel), 1, x.shape[-1]))
    return jnp.concatenate([kernel[:, 0], bias], axis=1)


def _counts(x: jax.Array, kernel: jax.Array, visible: jax.Array | None) -> jax.Array:
    return jnp.full(x.shape[:2], kernel.shape[2], jnp.int32) if visible is None else visible


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
