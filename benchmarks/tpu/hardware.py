"""XLA's native convolution against Pallas on a real TPU: `python -m benchmarks.tpu.hardware`.

Takes some five minutes on one chip. Each row checks that both lowerings agree and times them in
alternation; all are written as JSON. Please send it to the project, so that the faster becomes the
default. `--interpret` runs tiny shapes on any machine, to see that the program works; its times
mean nothing.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax import ops
from dwconv_jax.models.families.blocks import DWBlock
from dwconv_jax.ops.connectivity import Pair
from dwconv_jax.ops.lowerings.tpu.platform import interpreted_kernels

STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))
KERNEL = 7
GROUPS = 32  # of centre-predicted weights
_PAIRS, _CALLS = 20, 20  # of each row; calls of a lowering in a pair
# Both round bfloat16 operands and results, and sum in another order.
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
    mixer = dict(connectivity="sliding", kernel_size=KERNEL, dynamic="none", lowering=lowering)
    module = DWBlock(
        channels,
        mixer=mixer,
        mlp_ratio=4,
        drop_path=0.0,
        batch_norm_group_size=None,
        dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
    )
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)

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
    """The norm of all arrays' differences over the norm of the native ones; NaN with any NaN.

    Array by array it would mean little: a bias before a norm has only noise for its gradient.
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
    shapes = {
        "static": (1, 1, 1, KERNEL**2, channels),
        "pooled": (images, 1, 1, KERNEL**2, channels),
        "centre": (images, size**2, 1, KERNEL**2, min(GROUPS, channels)),
    }
    case, rows = f"{size}x{size}x{channels}", []
    for train, what in ((False, "forward"), (True, "gradients")):
        both = [operator(lowering, train) for lowering in ("auto", "pallas")]
        for kind, shape in shapes.items():
            weights = jax.random.normal(keys[1], shape, jnp.bfloat16)
            rows.append(compare(case, f"{kind}, {what}", both, (x, weights), repeats))
        both = [block(channels, lowering, train) for lowering in ("auto", "pallas")]
        rows.append(compare(case, f"block, {what}", both, (x,), repeats))
    return rows


def main(options: argparse.Namespace) -> None:
    """Prints a table and writes it; a wrong result ends the program with status 1."""
    if jax.default_backend() != "tpu" and not options.interpret:
        sys.exit(f"no TPU here, only {jax.default_backend()!r}; --interpret runs on any machine")
    stages = ((4, 16),) if options.interpret else STAGES
    images = 2 if options.interpret else options.images
    repeats = (1, 1) if options.interpret else (_PAIRS, _CALLS)
    device = jax.devices()[0].device_kind
    print(f"## {device}, bfloat16, {images} images, jax {jax.__version__}\n")
    print(
        "| case | what | native ms | Pallas ms | native / Pallas | difference |\n"
        + "|---" * 6
        + "|"
    )
    mode = interpreted_kernels() if options.interpret else contextlib.nullcontext()
    rows: list[Row] = []
    with mode:
        for size, channels in stages:
            for row in measure(size, channels, images, repeats):
                rows.append(row)
                print(
                    f"| {row.case} | {row.what} | {row.native_ms:.3f} | {row.pallas_ms:.3f} "
                    f"| {row.native_ms / row.pallas_ms:.2f} | {row.difference:.1e} |",
                    flush=True,
                )
    record = {"device": device, "jax": jax.__version__, "interpreted": options.interpret}
    record |= {"images": images, "rows": [dataclasses.asdict(row) for row in rows]}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    wrong = [row for row in rows if not row.difference <= _AGREEMENT]
    if wrong:
        sys.exit(f"the lowerings disagree: {wrong}")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--interpret", action="store_true", help="tiny shapes, on any machine")
    options.add_argument("--images", type=int, default=128, help="on the chip")
    output = Path("runs/benchmarks/tpu_hardware.json")
    options.add_argument("--output", type=Path, default=output)
    return options


if __name__ == "__main__":
    main(parser().parse_args())
