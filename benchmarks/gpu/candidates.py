"""Every way to compute the operator on a GPU: what `lowering=` offers, and plain XLA."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dwconv_jax import ops
from dwconv_jax.ops.connectivity import Border
from dwconv_jax.ops.lowerings.cpu.shifted_sums import shifted_kernel_gradient, shifted_sum
from dwconv_jax.ops.lowerings.native_conv import native_conv
from dwconv_jax.ops.lowerings.selection import LOWERINGS

_TPU_ONLY = ("pallas",)
CHOICES = tuple(name for name in LOWERINGS if name not in _TPU_ONLY)
# The others, which "auto" takes one of.
KERNELS = tuple(name for name in CHOICES if name != "auto")
SHIFTED = "shifted sums"  # the name of that candidate
_MOST_SHIFTS = 7  # in a row; one fusion of more spills its registers

Mix = Callable[[jax.Array, jax.Array], jax.Array]
Attend = Callable[..., jax.Array]


def by_choice(connectivity: ops.Connectivity) -> dict[str, Mix]:
    """The operator by each value of `lowering=`."""
    return {
        f"lowering={name}": functools.partial(
            ops.locally_connected, connectivity=connectivity, lowering=name
        )
        for name in CHOICES
    }


def depthwise(kernel: int, dilation: int = 1) -> dict[str, Mix]:
    """The operator with weights `[B or 1, 1, 1, kernel**2, C]`, also as XLA alone offers it."""
    square = functools.partial(_as_square, kernel=kernel, dilation=(dilation, dilation))
    found: dict[str, Mix] = {"XLA convolution": functools.partial(square, native_conv)}
    found |= by_choice(ops.Sliding(kernel, dilation))
    if kernel <= _MOST_SHIFTS:
        found[SHIFTED] = functools.partial(square, _shifted)
    return found


def neighborhood_attention(kernel: int, border: Border = "clamp") -> dict[str, Attend]:
    """Attention to neighborhoods, of queries, keys, values `[B, H, W, heads, D]`, and a bias."""

    def by(name: Any) -> Attend:
        def attend(
            query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None
        ) -> jax.Array:
            how: dict[str, Any] = dict(border=border, bias=bias, lowering=name)
            return ops.neighborhood_attention(query, key, value, kernel, **how)

        return attend

    return {f"lowering={name}": by(name) for name in CHOICES}


def window_attention(window: int) -> Callable[..., jax.Array]:
    """Attention inside windows, of queries, keys and values `[B, H, W, heads, D]`."""
    connectivity: Any = ops.Window(window)

    def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        weights, _ = ops.attention.softmax(ops.attention.logits(query, key, connectivity))
        return ops.attention.mix(weights, value, connectivity)

    return attend


def _as_square(
    convolve: Callable[..., jax.Array], x: jax.Array, weights: jax.Array, *, kernel: int, **how: Any
) -> jax.Array:
    taps = weights.reshape(len(weights), kernel, kernel, -1)
    return convolve(x, jnp.repeat(taps, x.shape[-1] // taps.shape[-1], -1), **how)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x: jax.Array, kernel: jax.Array, dilation: tuple[int, int]) -> jax.Array:
    return shifted_sum(x, kernel, dilation)


def _shifted_forward(x: jax.Array, kernel: jax.Array, dilation: tuple[int, int]) -> Any:
    return _shifted(x, kernel, dilation), (x, kernel)


def _shifted_backward(dilation: tuple[int, int], saved: Any, g: jax.Array) -> Any:
    x, kernel = saved
    gradient = shifted_kernel_gradient(x, g, kernel.shape[1:3], dilation)
    if len(kernel) == 1:
        gradient = gradient.sum(0, keepdims=True)
    return shifted_sum(g, kernel[:, ::-1, ::-1], dilation), gradient.astype(kernel.dtype)


_shifted.defvjp(_shifted_forward, _shifted_backward)
