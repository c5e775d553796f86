"""Calls to measure: inputs, forward and backward passes, compiled peers."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from benchmarks.timing import Timer, compile_function, timer

WHAT = ("forward", "forward + gradients")  # index: train


def normal(*shape: int) -> jax.Array:
    """Normal numbers; always the same."""
    return jax.random.normal(jax.random.key(0), shape)


def passes(
    function: Callable[..., jax.Array], inputs: tuple[Any, ...], train: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A call and its arguments: the function, or with `train` its value and all gradients."""

    def with_gradients(cotangent: jax.Array, *inputs: Any) -> Any:
        y, pullback = jax.vjp(function, *inputs)
        return y, pullback(cotangent)

    cotangent = inputs[0]  # every operator here keeps the shape of its first input
    return (with_gradients, (cotangent, *inputs)) if train else (function, inputs)


def compiled_timer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Timer:
    """Times a peer that runs in this process."""
    compiled, _ = compile_function(function, *arguments)
    return timer(lambda: compiled(*arguments))


def nnx_conv(
    x: jax.Array, kernel: int, **options: Any
) -> tuple[Callable[[jax.Array, nnx.State], jax.Array], tuple[jax.Array, nnx.State]]:
    """A `flax.nnx.Conv` of a square kernel that keeps the shape of `x`, and its inputs."""
    channels = x.shape[-1]
    conv = nnx.Conv(
        channels, channels, (kernel, kernel), use_bias=False, rngs=nnx.Rngs(0), **options
    )
    graph, state = nnx.split(conv)
    return lambda x, state: nnx.merge(graph, state)(x), (x, state)


def torch_details(x: jax.Array, kernel: int, dilation: int = 1) -> dict[str, Any]:
    """The PyTorch peer's arguments for a convolution of `x` by a square kernel."""
    names = ("batch", "height", "width", "channels")
    square = {"kernel": (kernel, kernel), "dilation": (dilation, dilation)}
    return dict(zip(names, x.shape, strict=True)) | square
