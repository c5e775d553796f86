"""What is timed of an operator: the program, its arguments and the bytes that it must move."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.gpu import torch_peer
from benchmarks.gpu.clock import copies, num_inputs, time_calls
from benchmarks.gpu.problems import with_gradients
from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.gpu.stages.ceilings import copy_bandwidth
from dwconv_jax.errors import UserError

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
Function = Callable[..., Any]


class Program(NamedTuple):
    """One operation of an operator.

    Attributes:
      derive: from the operator to the function to time.
      shapes: of the function's arguments; the first varies between calls, as do all of its shape.
      bytes_moved: by a kernel that reads its arguments and writes its results once, in bfloat16.
    """

    derive: Callable[[Function], Function]
    shapes: Shapes
    bytes_moved: int


def bilinear(x: Shape, weights: Shape) -> dict[str, Program]:
    """Forward, and each gradient by itself: it depends on the other argument alone."""
    zeros = functools.partial(jnp.zeros, dtype=jnp.bfloat16)

    def in_x(mix: Function) -> Function:
        return lambda g, w: jax.vjp(lambda x: mix(x, w), zeros(x))[1](g)

    def in_weights(mix: Function) -> Function:
        return lambda x, g: jax.vjp(lambda w: mix(x, w), zeros(weights))[1](g)

    moved = _bytes(x, x, weights)  # two of the three are read, the third is written
    return {
        "forward": Program(lambda mix: mix, (x, weights), moved),
        "input gradient": Program(in_x, (x, weights), moved),
        "weight gradient": Program(in_weights, (x, x), moved),
    }


def both(*inputs: Shape) -> dict[str, Program]:
    """Forward, and forward with all gradients, which needs the result's cotangent as well."""
    x = inputs[0]
    return {
        "forward": Program(lambda function: function, inputs, _bytes(*inputs, x)),
        "forward + gradients": Program(
            lambda function: functools.partial(with_gradients, function),
            (*inputs, x),
            _bytes(*inputs, *inputs, x, x),
        ),
    }


def ours(name: str, function: Function, programs: dict[str, Program], settings: Settings) -> Case:
    """Times all programs of one candidate."""

    def run() -> Iterator[dict[str, Any]]:
        compile_seconds = 0.0
        for what, program in programs.items():
            calls = _calls(program, settings)
            try:
                seconds, spent = time_calls(program.derive(function), calls, settings)
            except UserError as error:  # a lowering may not cover this operator
                yield {"skipped": str(error)}
                return
            compile_seconds += spent
            yield _cells(what, seconds, program, settings) | {"compile s": compile_seconds}

    return Case(name, run)


def pytorch(
    name: str, programs: dict[str, Program], settings: Settings, case: str, **details: Any
) -> Case:
    """Times the same by PyTorch."""

    def run() -> Iterator[dict[str, Any]]:
        for what, program in programs.items():
            count = num_inputs(program.bytes_moved, settings)
            answer = torch_peer.ask(settings, case, count=count, operation=what, **details)
            if "error" in answer:
                yield {"error": f"{what}: {answer['error']}"}
                continue
            yield _cells(what, answer["s"], program, settings)
            if not answer["captured"]:
                yield {what: "timed without a CUDA graph"}

    return Case(name, run)


def _calls(program: Program, settings: Settings) -> list[tuple[jax.Array, ...]]:
    count = num_inputs(program.bytes_moved, settings)
    keys = jax.random.split(jax.random.key(0), len(program.shapes))
    arrays = [
        jax.random.normal(key, shape, jnp.bfloat16)
        for key, shape in zip(keys, program.shapes, strict=True)
    ]
    varying = [copies(a, count) if a.shape == arrays[0].shape else [a] * count for a in arrays]
    return list(zip(*varying, strict=True))


def _cells(what: str, seconds: float, program: Program, settings: Settings) -> dict[str, float]:
    share = program.bytes_moved / seconds / copy_bandwidth(settings)
    return {f"{what} us": seconds * 1e6, f"{what} of copy": share}


def _bytes(*shapes: Shape) -> int:
    return sum(jax.ShapeDtypeStruct(shape, jnp.bfloat16).size for shape in shapes) * 2
