"""Times XLA's native convolution against Pallas on a TPU: `python -m benchmarks.tpu.hardware`.

Takes about five minutes on one chip. Each row checks that both lowerings agree and times them in
alternation; the rows are also written as JSON. Please send that file to the project, so that the
faster lowering becomes the default. `--interpret` runs tiny shapes on any machine, to check the
program itself; its times mean nothing.
"""

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.output import print_cells, print_header, write_json
from benchmarks.stages import KERNEL, STAGES, weight_shape
from benchmarks.tpu.block import make_block
from dwconv_jax import ops
from dwconv_jax.ops.connectivity import Pair
from dwconv_jax.ops.lowerings.tpu.platform import interpreted_kernels

_PAIRS, _CALLS = 20, 20  # pairs of each row; calls of each lowering in a pair
# Both round operands and results to bfloat16, but sum in different orders.
_AGREEMENT = 3e-2


@dataclasses.dataclass(frozen=True)
class Row:
    """Milliseconds of a call by each lowering (medians), and their largest relative difference."""

    case: str
    what: str
    native_ms: float
    pallas_ms: float
    difference: float


def operator(lowering: str, train: bool) -> Callable[..., Any]:
    """The sliding operator, or its two gradients."""

    def mix(x: jax.Array, weights: jax.Array) -> jax.Array:
        return ops.locally_connected(x, weights, ops.Sliding(KERNEL), lowering)

    return (lambda x, weights: jax.vjp(mix, x, weights)[1](x)) if train else mix


def block(channels: int, lowering: str, train: bool) -> Callable[..., Any]:
    """A whole DWNet block, or the gradients of its parameters and input."""
    block = make_block(channels, lowering, mlp_ratio=4)
    graph, parameters, rest = nnx.split(block, nnx.Param, ...)

    def apply(parameters: nnx.State, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, parameters, rest, copy=True)(x, train)

    def gradients(x: jax.Array) -> Any:
        return jax.vjp(apply, parameters, x)[1](x)

    return gradients if train else (lambda x: apply(parameters, x))


def compare(
    case: str, what: str, functions: list[Callable[..., Any]], inputs: tuple, repeats: Pair
) -> Row:
    """The row of two functions: native and Pallas."""
    compiled = [jax.jit(function).lower(*inputs).compile() for function in functions]
    results = [jax.block_until_ready(call(*inputs)) for call in compiled]
    pairs, calls = repeats
    times = [[_seconds(call, inputs, calls) for call in compiled] for _ in range(pairs)]
    native_ms, pallas_ms = 1e3 * np.median(np.array(times), axis=0)
    return Row(case, what, native_ms, pallas_ms, difference(*results))


def difference(native: Any, pallas: Any) -> float:
    """The norm of the difference over the norm of the native result, all arrays together.

    NaN if either holds a NaN. One array at a time would mean little: the gradient of a bias before
    a norm is pure noise.
    """

    def norm(tree: Any) -> float:
        return float(np.sqrt(sum(np.sum(np.square(a)) for a in jax.tree.leaves(tree))))

    native, pallas = (
        jax.tree.map(lambda a: np.asarray(a, np.float32), t) for t in (native, pallas)
    )
    return norm(jax.tree.map(np.subtract, native, pallas)) / norm(native)


def _seconds(call: Callable[..., Any], inputs: tuple[Any, ...], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        result = call(*inputs)
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / calls


def measure(size: int, channels: int, images: int, repeats: Pair) -> list[Row]:
    """All rows of one stage."""
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (images, size, size, channels), jnp.bfloat16)
    case, rows = f"{size}x{size}x{channels}", []
    for train, what in ((False, "forward"), (True, "gradients")):
        both = [operator(lowering, train) for lowering in ("auto", "pallas")]
        for dynamic in ("static", "pooled", "centre"):
            shape = weight_shape(dynamic, images, size, channels)
            weights = jax.random.normal(keys[1], shape, jnp.bfloat16)
            rows.append(compare(case, f"{dynamic}, {what}", both, (x, weights), repeats))
        both = [block(channels, lowering, train) for lowering in ("auto", "pallas")]
        rows.append(compare(case, f"block, {what}", both, (x,), repeats))
    return rows


def print_row(row: Row) -> None:
    """Prints one line of the table."""
    print_cells(
        row.case,
        row.what,
        f"{row.native_ms:.3f}",
        f"{row.pallas_ms:.3f}",
        f"{row.native_ms / row.pallas_ms:.2f}",
        f"{row.difference:.1e}",
    )


def main(options: argparse.Namespace) -> None:
    """Prints a table and writes it; exits with status 1 if the lowerings disagree."""
    if jax.default_backend() != "tpu" and not options.interpret:
        sys.exit(f"no TPU here, only {jax.default_backend()!r}; --interpret runs on any machine")
    stages = ((4, 16),) if options.interpret else STAGES
    images = 2 if options.interpret else options.images
    repeats = (1, 1) if options.interpret else (_PAIRS, _CALLS)
    device = jax.devices()[0].device_kind
    print(f"## {device}, bfloat16, {images} images, jax {jax.__version__}\n")
    print_header("case", "what", "native ms", "Pallas ms", "native / Pallas", "difference")
    mode = interpreted_kernels() if options.interpret else contextlib.nullcontext()
    rows: list[Row] = []
    with mode:
        for size, channels in stages:
            for row in measure(size, channels, images, repeats):
                rows.append(row)
                print_row(row)
    facts = {"device": device, "jax": jax.__version__, "interpreted": options.interpret}
    write_json(options.output, facts | {"images": images}, rows)
    wrong = [row for row in rows if not row.difference <= _AGREEMENT]
    if wrong:
        sys.exit(f"the lowerings disagree: {wrong}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--interpret", action="store_true", help="tiny shapes, on any machine")
    options.add_argument("--images", type=int, default=128, help="images on the chip")
    output = Path("runs/benchmarks/tpu_hardware.json")
    options.add_argument("--output", type=Path, default=output)
    return options


if __name__ == "__main__":
    main(parser().parse_args())
