"""Small problems of odd sizes, with every way to solve them and their definitions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.candidates import (
    by_choice,
    depthwise,
    neighborhood_attention,
    window_attention,
)
from dwconv_jax import ops
from dwconv_jax.ops.connectivity import Border

Shape = tuple[int, ...]


class Problem(NamedTuple):
    """An operator on arrays of some shapes.

    Attributes:
      shapes: of the arguments.
      definition: the operator as its equation, in the dtype of the arguments.
      candidates: its implementations, by name.
    """

    shapes: tuple[Shape, ...]
    definition: Callable[..., jax.Array]
    candidates: dict[str, Callable[..., jax.Array]]


def problems(dry_run: bool) -> dict[str, Problem]:
    """All problems, in order of worth; a dry run has one small one for each operator."""
    k = 3 if dry_run else 7
    found = {
        f"static {k}x{k}, 3x9x14x34": _convolution((3, 9, 14, 34), k),
        f"pooled {k}x{k}, 3x9x14x40": _convolution((3, 9, 14, 40), k, per_image=True),
        f"centre {k}x{k}, 2x9x14x12": _mixing((2, 9, 14, 12), ops.Sliding(k), 4),
        f"windows {k}x{k}, 2x13x20x12": _mixing((2, 13, 20, 12), ops.Window(k, k // 2), 3),
        f"neighborhoods {k}x{k}, 2x9x14x2x16": _neighborhoods((2, 9, 14, 2, 16), k, biased=True),
        f"window attention {k}x{k}, 2 heads": _window_attention(k),
        "short convolution 4, 3x37x24": _short_convolution((3, 37, 24), 4),
    }
    if dry_run:
        return found
    return found | {
        "static 7x7, 2x30x58x40": _convolution((2, 30, 58, 40), 7),
        "static 3x3, 3x7x7x64": _convolution((3, 7, 7, 64), 3),
        "static 13x13, 2x15x14x32": _convolution((2, 15, 14, 32), 13),
        "static 31x31, 2x33x20x16": _convolution((2, 33, 20, 16), 31),
        "static 5x5 dilated, 2x11x13x6": _convolution((2, 11, 13, 6), 5, dilation=2),
        "static 7x7, 1x5x6x1": _convolution((1, 5, 6, 1), 7),
        "pooled 3x3, 3x7x7x64": _convolution((3, 7, 7, 64), 3, per_image=True),
        "pooled 13x13, 2x15x14x32": _convolution((2, 15, 14, 32), 13, per_image=True),
        "windows 7x7, 2x14x21x12": _mixing((2, 14, 21, 12), ops.Window(7), 3),
        "neighborhoods 7x7, 2x28x20x3x32": _neighborhoods((2, 28, 20, 3, 32), 7),
        "neighborhoods 13x13, 1x30x14x1x64": _neighborhoods((1, 30, 14, 1, 64), 13),
        "sliding attention 5x5, 2x9x7x2x16": _neighborhoods((2, 9, 7, 2, 16), 5, "zero"),
    }


def _convolution(shape: Shape, kernel: int, dilation: int = 1, per_image: bool = False) -> Problem:
    weights = (shape[0] if per_image else 1, 1, 1, kernel**2, shape[-1])
    connectivity = ops.Sliding(kernel, dilation)
    return Problem((shape, weights), _defined(connectivity), depthwise(kernel, dilation))


def _mixing(shape: Shape, connectivity: ops.Connectivity, groups: int) -> Problem:
    """Weights that differ between images and positions or windows."""
    weights = (shape[0], *connectivity.block_shape(*shape[1:-1]), groups)
    return Problem((shape, weights), _defined(connectivity), by_choice(connectivity))


def _defined(connectivity: ops.Connectivity) -> Callable[..., jax.Array]:
    return lambda x, weights: ops.definition.locally_connected(x, weights, connectivity)


def _attention(
    shape: Shape,
    connectivity: ops.Connectivity,
    candidates: dict[str, Callable[..., jax.Array]],
    bias: Shape | None = None,
) -> Problem:
    *_, heads, width = shape

    def definition(
        query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None
    ) -> jax.Array:
        size = shape[1:-2]
        seen, outputs = connectivity.neighbours(*size), connectivity.outputs(*size)
        queries, keys = (x.reshape(shape[0], -1, heads, width) for x in (query, key))
        logits = jnp.einsum("bnqhd,bnqkhd->bnqkh", queries[:, outputs], keys[:, seen])
        logits = logits * width**-0.5
        if bias is not None:
            relative = connectivity.relative_positions(*size)
            logits += jnp.moveaxis(bias.reshape(heads, -1)[:, relative], 0, -1)[None]
        logits = jnp.where((seen >= 0)[None, ..., None], logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=3)
        flat = value.reshape(*shape[:-2], heads * width)
        return ops.definition.locally_connected(flat, weights, connectivity).reshape(shape)

    shapes = (shape,) * 3 + (() if bias is None else (bias,))
    return Problem(shapes, definition, candidates)


def _neighborhoods(
    shape: Shape, kernel: int, border: Border = "clamp", biased: bool = False
) -> Problem:
    side = 2 * kernel - 1
    bias = (shape[-2], side, side) if biased else None
    found = neighborhood_attention(kernel, border)
    return _attention(shape, ops.Sliding(kernel, border=border), found, bias)


def _window_attention(window: int) -> Problem:
    shape = (2, 2 * window, 3 * window, 2, 16)
    return _attention(shape, ops.Window(window), {"ops": window_attention(window)})


def _short_convolution(shape: Shape, taps: int) -> Problem:
    connectivity = ops.Sliding((taps,), causal=True)
    channels = shape[-1]

    def definition(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        y = ops.definition.locally_connected(x, kernel[None, None, None], connectivity)
        return jax.nn.silu(y + bias[None, None])

    def candidate(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return ops.causal_conv1d(x, kernel, bias, activation="silu")

    return Problem((shape, (taps, channels), (channels,)), definition, {"ops": candidate})


def arguments(problem: Problem) -> list[np.ndarray]:
    """Numbers that bfloat16 holds exactly, in float64, so that every dtype solves the same."""
    rng = np.random.default_rng(0)
    return [
        np.asarray(rng.normal(size=shape)).astype(jnp.bfloat16).astype(np.float64)
        for shape in (*problem.shapes, problem.shapes[0])  # the last is the cotangent
    ]


def with_gradients(function: Callable[..., jax.Array], *arrays: Any) -> tuple[Any, Any]:
    """The result, and the gradients for the last array as its cotangent."""
    *inputs, cotangent = arrays
    y, pullback = jax.vjp(function, *inputs)
    return y, pullback(cotangent)
