"""Estimates the lowerings' cost on TPU from the compiler's schedule: `python -m benchmarks.tpu`.

Needs `pip install libtpu` but no TPU. Nothing runs; benchmarks/README.md says what that means.
"""

# isort: off
from benchmarks.tpu.programs import CHIPS, Chip, Estimate, estimate, estimate_step
# isort: on

import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.output import figure, print_cells, print_header, write_json
from benchmarks.stages import KERNEL, STAGES, weight_shape
from benchmarks.tpu.block import make_block
from configs import imagenet
from dwconv_jax import ops
from dwconv_jax.aot.topologies import abstract_devices
from dwconv_jax.ops.lowerings.cpu.shifted_sums import shifted_sum

IMAGES = 128  # on each chip: they fill the lanes
LOWERINGS = ("auto", "pallas")
WEIGHTS = ("static", "pooled", "centre")
OPERATOR = ("forward", "gradient in x", "gradient in weights")
BLOCK = ("block, evaluation", "block, training")
WHAT = (*(f"{weights}, {what}" for weights in WEIGHTS for what in OPERATOR), *BLOCK)
MODELS = {
    "dwnet_tiny": LOWERINGS,
    "dynamic_dwnet_tiny": LOWERINGS,
    "i_dynamic_dwnet_tiny": LOWERINGS,
    "swin_tiny": ("auto",),
}
SUMS = "shifted sums"  # the faster form in XLA of pooled weights on small maps
_UNITS_IN_VECTOR, _LANES = 4, 1024

Program = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Row:
    """A program compiled for a chip; `unit_micros` is its time on the best unit at peak rate."""

    chip: str
    case: str
    what: str
    lowering: str
    unit_micros: float
    estimate: Estimate


def operator(what: str, size: int, channels: int, lowering: str) -> Program:
    """The sliding operator with static, pooled or centre-predicted weights, or its gradient."""
    x = jax.ShapeDtypeStruct((IMAGES, size, size, channels), jnp.bfloat16)
    dynamic, what = what.split(", ")
    weights = jax.ShapeDtypeStruct(weight_shape(dynamic, IMAGES, size, channels), jnp.bfloat16)

    def mix(x: jax.Array, weights: jax.Array) -> jax.Array:
        if lowering == SUMS:
            return shifted_sum(x, weights.reshape(IMAGES, KERNEL, KERNEL, channels), (1, 1))
        return ops.locally_connected(x, weights, ops.Sliding(KERNEL), lowering)

    def gradient_in_x(x: jax.Array, g: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: mix(x, weights), x)[1](g)[0]

    def gradient_in_weights(x: jax.Array, g: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.vjp(lambda w: mix(x, w), weights)[1](g)[0]

    match what:
        case "forward":
            return mix, (x, weights)
        case "gradient in x":
            return gradient_in_x, (x, x, weights)
        case _:
            return gradient_in_weights, (x, x, weights)


def block(size: int, channels: int, lowering: str, train: bool) -> Program:
    """DWNet's 1x1, norm, ReLU, operator, norm, ReLU, 1x1, norm and residual, without its MLP."""
    block = nnx.eval_shape(lambda: make_block(channels, lowering, mlp_ratio=1))
    graph, parameters, rest = nnx.split(block, nnx.Param, ...)

    def evaluate(parameters: nnx.State, rest: nnx.State, x: jax.Array) -> jax.Array:
        half = nnx.merge(graph, parameters, rest, copy=True)
        y = jax.nn.relu(half.norm_in(half.pointwise_in(x), train))
        y = jax.nn.relu(half.norm_mixer(half.mixer(y, train), train))
        return x + half.norm_out(half.pointwise_out(y), train)

    def gradients(parameters: nnx.State, rest: nnx.State, x: jax.Array, g: jax.Array) -> Any:
        y, pullback = jax.vjp(lambda p, x: evaluate(p, rest, x), parameters, x)
        return y, pullback(g)

    x = jax.ShapeDtypeStruct((IMAGES, size, size, channels), jnp.bfloat16)
    arguments = (parameters, rest, x)
    return (gradients, (*arguments, x)) if train else (evaluate, arguments)


def training_step(model: str, lowering: str, chip: Chip) -> tuple[Estimate, float]:
    """The step of configs/imagenet.py, and its matrix products' microseconds at peak rate."""
    config = imagenet.get_config(model)
    config.model.lowering = lowering
    images = IMAGES * len(abstract_devices(chip.topology))
    config.update(batch_size=images, eval_batch_size=images)
    cost, operations = estimate_step(config, chip)
    return cost, operations / chip.flops * 1e6


def part(size: int, channels: int, what: str, lowering: str, chip: Chip) -> tuple[Estimate, float]:
    """An operator or block of a stage, and its microseconds on the best unit at peak rate."""
    if not what.startswith("block"):
        cost = estimate(*operator(what, size, channels, lowering), chip)
        return cost, vector_micros(size, channels, chip)
    train = what.endswith("training")
    products = IMAGES * size**2 * channels**2
    operations = 2 * 2 * products * (3 if train else 1)
    cost = estimate(*block(size, channels, lowering, train), chip)
    return cost, operations / chip.flops * 1e6


def vector_micros(size: int, channels: int, chip: Chip) -> float:
    """The vector unit's time for the taps inside the map, a product and a sum each."""
    reach = KERNEL // 2
    seen = sum(min(i + reach, size - 1) - max(i - reach, 0) + 1 for i in range(size))
    operations = 2 * seen**2 * channels * IMAGES
    return operations / (_UNITS_IN_VECTOR * _LANES) / chip.clock / 1e3


@dataclasses.dataclass(frozen=True)
class Case:
    """A case; `compile_for` gives its estimate and the best unit's microseconds."""

    case: str
    what: str
    lowering: str
    compile_for: Callable[[Chip], tuple[Estimate, float]]


def cases() -> Iterator[Case]:
    """Operators and blocks of the four stages, then the training steps of whole models."""
    for size, channels in reversed(STAGES):
        for what in WHAT:
            for lowering in (*LOWERINGS, SUMS) if what == "pooled, forward" else LOWERINGS:
                compile_for = functools.partial(part, size, channels, what, lowering)
                yield Case(f"{size}x{size}x{channels}", what, lowering, compile_for)
    for model, lowerings in MODELS.items():
        for lowering in lowerings:
            compile_for = functools.partial(training_step, model, lowering)
            yield Case(model, "training step", lowering, compile_for)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for every chip and case; prints and skips programs that do not compile."""
    for name in options.chips:
        for case in cases():
            label = f"{case.case} {case.what} {case.lowering}"
            if options.only not in label:
                continue
            try:
                cost, unit = case.compile_for(CHIPS[name])
            except (ValueError, MemoryError, jax.errors.JaxRuntimeError) as error:
                print(f"{name} {label}: {str(error).splitlines()[0]}", flush=True)
                continue
            yield Row(name, case.case, case.what, case.lowering, unit, cost)


_HEADER = (
    "chip",
    "case",
    "what",
    "lowering",
    "us",
    "of auto",
    "cycles us",
    "HBM us",
    "MB",
    "ideal MB",
    "unit's us",
    "temporary MB",
    "compile s",
)


def print_row(row: Row, auto: Row | None) -> None:
    """Prints one line of the table."""
    cost = row.estimate
    share = f"{cost.micros / auto.estimate.micros:.2f}" if auto else ""
    print_cells(
        row.chip,
        row.case,
        row.what,
        row.lowering,
        f"{cost.micros:.1f}" + ("" if cost.exact else " ?"),
        share,
        f"{cost.cycle_micros:.1f}",
        f"{cost.hbm_micros:.1f}",
        f"{cost.hbm_megabytes:.1f}",
        f"{cost.ideal_megabytes:.1f}",
        f"{row.unit_micros:.1f}",
        f"{cost.temporary_megabytes:.0f}",
        f"{cost.compile_seconds:.1f}",
    )


def write(path: Path, rows: list[Row]) -> None:
    """Writes `path`.json with everything and `path`.png with Pallas's share of XLA's time."""
    write_json(path.with_suffix(".json"), {"jax": jax.__version__, "images": IMAGES}, rows)
    native = {(r.chip, r.case, r.what): r for r in rows if r.lowering == "auto"}
    pairs = [
        (f"{r.chip} {r.case} {r.what}", r.estimate.micros / native[key].estimate.micros)
        for r in rows
        if r.lowering == "pallas" and (key := (r.chip, r.case, r.what)) in native
    ]
    if pairs:
        _draw(path.with_suffix(".png"), pairs)


def _draw(path: Path, pairs: list[tuple[str, float]]) -> None:
    with figure(path, figsize=(9, 1 + 0.22 * len(pairs))) as axes:
        axes.barh(range(len(pairs)), [share for _, share in pairs], color="tab:blue")
        axes.set_yticks(range(len(pairs)), [label for label, _ in pairs], fontsize=7)
        axes.invert_yaxis()
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xlabel("Pallas over XLA's native lowering, static estimate")


def main(options: argparse.Namespace) -> None:
    """Estimates what `--chips` and `--only` select; writes the files even when interrupted."""
    jax.config.update("jax_platforms", "cpu")
    print(f"## TPU by static estimate, bfloat16, {IMAGES} images on a chip, jax {jax.__version__}")
    print("\n'auto' is XLA's own lowering; nothing was run\n")
    print_header(*_HEADER)
    rows: list[Row] = []
    try:
        for row in measure(options):
            rows.append(row)
            same = (row.chip, row.case, row.what, "auto")
            auto = next((r for r in rows if (r.chip, r.case, r.what, r.lowering) == same), None)
            print_row(row, auto)
    finally:
        write(options.output, rows)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--chips", nargs="+", choices=CHIPS, default=["v5e", "v6e"])
    options.add_argument("--only", default="", help="estimate only cases whose name contains this")
    output = Path("runs/benchmarks/tpu")
    options.add_argument("--output", type=Path, default=output, help="output path without suffix")
    return options


if __name__ == "__main__":
    main(parser().parse_args())
