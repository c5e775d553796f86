"""Calls to measure: inputs, forward and backward passes, compiled peers."""

from collections.abc import Callable
from typing import Any

import jax

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
