"""Causal short convolution, bias and activation as one operation, in both directions.

The backward pass recomputes the convolution from its inputs, so that training keeps nothing else.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import export, lax

from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel
from dwconv_jax.ops.lowerings.cpu import short_conv as cpu_short_conv
from dwconv_jax.ops.lowerings.linear_map import linear_map
from dwconv_jax.ops.lowerings.per_position import spread


class Inputs(NamedTuple):
    """What a short convolution is differentiable in, in one dtype.

    Attributes:
      x: `[B, L, C]`.
      kernel: `[1 or B, 1 or L, K, G]`; channel `c` uses group `c // (C // G)`.
      bias: `[C]`.
      state: `[B, K - 1, C]`, the inputs before the first token.
    """

    x: jax.Array
    kernel: jax.Array
    bias: jax.Array
    state: jax.Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def short_conv(inputs: Inputs, visible: jax.Array | None, silu: bool) -> jax.Array:
    """Convolves causally, adds the bias and applies SiLU if asked to.

    Args:
      inputs: the arrays.
      visible: int32 `[B, L]`, how many of its taps a token sees; None for all.
      silu: whether to apply SiLU.

    Returns:
      `[B, L, C]`.
    """
    shifted = functools.partial(_shifted_sum, silu=silu)
    if not _by_cpu_kernel(inputs):
        return shifted(inputs, visible)

    def compiled(inputs: Inputs, visible: jax.Array | None) -> jax.Array:
        return cpu_short_conv.convolve(*inputs, visible, silu=silu)

    return lax.platform_dependent(inputs, visible, cpu=compiled, default=shifted)


@short_conv.defjvp
def _short_conv_jvp(silu: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    push_forward, pull_back = (functools.partial(f, silu=silu) for f in (_push_forward, _pull_back))
    tangent = linear_map(push_forward, pull_back, primals, tangents[0])
    return short_conv(*primals, silu), tangent


def _push_forward(primals: tuple, tangents: Inputs, *, silu: bool) -> jax.Array:
    """Maps tangents of the inputs to that of the result."""
    inputs, visible = primals
    shifted = functools.partial(_shifted_sum, visible=visible, silu=silu)
    return jax.jvp(shifted, (inputs,), (tangents,))[1]


def _pull_back(primals: tuple, g: jax.Array, *, silu: bool) -> Inputs:
    """Maps the cotangent of the result to those of the inputs."""
    inputs, visible = primals
    return _gradients(inputs, g, visible, silu)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _gradients(inputs: Inputs, g: jax.Array, visible: jax.Array | None, silu: bool) -> Inputs:
    derived = functools.partial(_derived_gradients, silu=silu)
    if not _by_cpu_kernel(inputs):
        return derived(inputs, g, visible)

    def compiled(inputs: Inputs, g: jax.Array, visible: jax.Array | None) -> Inputs:
        return Inputs(*cpu_short_conv.gradients(*inputs, visible, g, silu=silu))

    return lax.platform_dependent(inputs, g, visible, cpu=compiled, default=derived)


@_gradients.defjvp
def _gradients_jvp(silu: bool, primals: tuple, tangents: tuple) -> tuple[Inputs, Inputs]:
    inputs, g, visible = primals
    derived = functools.partial(_derived_gradients, visible=visible, silu=silu)
    _, change = jax.jvp(derived, (inputs, g), tangents[:2])
    return _gradients(inputs, g, visible, silu), change


def _by_cpu_kernel(inputs: Inputs) -> bool:
    """Whether the compiled kernel takes these arrays on CPU.

    A symbolic size means export, and the exported program must run without the compiled kernel.
    """
    x, kernel = inputs.x, inputs.kernel
    symbolic = any(export.is_symbolic_dim(size) for size in x.shape)
    by_position = kernel.shape[1] != 1 or kernel.shape[-1] != x.shape[-1]
    fits = x.dtype == jnp.float32 and not symbolic and not by_position
    return fits and cpu_kernel.is_usable()


def _shifted_sum(inputs: Inputs, visible: jax.Array | None, *, silu: bool) -> jax.Array:
    """The convolution as a sum of shifted products, which XLA fuses."""
    x, kernel, bias, state = inputs
    wide = jnp.promote_types(x.dtype, jnp.float32)
    (_, length, channels), taps = x.shape, kernel.shape[2]
    total = bias[None, None].astype(wide)
    for tap in range(taps):
        # Concatenating anew for each tap lets XLA fuse it: no padded copy of `x` in memory.
        token = jnp.concatenate([state[:, tap:], x], axis=1)[:, :length].astype(wide)
        if visible is not None:
            token = jnp.where(visible[..., None] >= taps - tap, token, 0)
        total += spread(kernel[:, :, tap].astype(wide), channels) * token
    return (jax.nn.silu(total) if silu else total).astype(x.dtype)


def _derived_gradients(
    inputs: Inputs, g: jax.Array, visible: jax.Array | None, *, silu: bool
) -> Inputs:
    shifted = functools.partial(_shifted_sum, visible=visible, silu=silu)
    return jax.vjp(shifted, inputs)[1](g)[0]
