"""Compiles operators and models for eight H100s, without a GPU: `python -m benchmarks.gpu`.

Nothing runs. The compiler tells the number of kernels, library calls and collectives, and the
bytes; times, and the algorithms that cuDNN and cuBLAS would pick, need the hardware.
"""

import argparse
import collections
import dataclasses
import functools
import importlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.output import figure, print_cells, print_header, write_json
from benchmarks.stages import KERNEL, STAGES, TAPS, weight_shape
from dwconv_jax import ops
from dwconv_jax.aot.collectives import collectives
from dwconv_jax.aot.compile import compile_step
from dwconv_jax.aot.hlo import Kernel, Program
from dwconv_jax.aot.topologies import abstract_devices, compiler_options
from dwconv_jax.aot.traffic import memory_traffic
from dwconv_jax.ops.lowerings.selection import Lowering
from dwconv_jax.training.mesh import make_mesh

MODELS = (
    ("configs.imagenet", "dwnet_tiny"),
    ("configs.imagenet", "dynamic_dwnet_tiny"),
    ("configs.imagenet", "i_dynamic_dwnet_tiny"),
    ("configs.imagenet", "swin_tiny"),
    ("configs.ade20k", "dwnet_tiny"),
)
BATCH, HEAD_SIZE = 128, 32
SIZE, CHANNELS = STAGES[2]


@dataclasses.dataclass(frozen=True)
class Operator:
    """A function of arrays and their shapes; all are bfloat16, and the result is like the first."""

    function: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]


def _mixing(
    weights: tuple[int, ...], connectivity: ops.Connectivity, lowering: Lowering = "auto"
) -> Operator:
    mix = functools.partial(ops.locally_connected, connectivity=connectivity, lowering=lowering)
    return Operator(mix, ((BATCH, SIZE, SIZE, CHANNELS), weights))


def _sliding(dynamic: str, lowering: Lowering = "auto") -> Operator:
    weights = weight_shape(dynamic, BATCH, SIZE, CHANNELS)
    return _mixing(weights, ops.Sliding(KERNEL), lowering)


def _neighborhood(size: int, channels: int, lowering: Lowering = "auto") -> Operator:
    attend = functools.partial(ops.neighborhood_attention, kernel_size=KERNEL, lowering=lowering)
    return Operator(attend, ((BATCH, size, size, channels // HEAD_SIZE, HEAD_SIZE),) * 3)


def _short_convolution(batch: int, length: int, channels: int) -> Operator:
    convolve = functools.partial(ops.causal_conv1d, activation="silu")
    return Operator(convolve, ((batch, length, channels), (4, channels), (channels,)))


# 128 images on each GPU, at the third stage of the tiny models unless the name says otherwise.
OPERATORS = {
    "depth-wise": _sliding("static"),
    "depth-wise, lowering='cuda'": _sliding("static", "cuda"),
    "pooled": _sliding("pooled"),
    "pooled, lowering='cuda'": _sliding("pooled", "cuda"),
    "centre": _sliding("centre"),
    "windows": _mixing((BATCH, 4, TAPS, TAPS, CHANNELS // HEAD_SIZE), ops.Window(KERNEL)),
    "neighborhood attention": _neighborhood(SIZE, CHANNELS),
    "neighborhood attention, lowering='cuda'": _neighborhood(SIZE, CHANNELS, "cuda"),
    "neighborhood attention 56x56": _neighborhood(*STAGES[0]),
    "neighborhood attention 56x56, lowering='cuda'": _neighborhood(*STAGES[0], "cuda"),
    "short convolution of 8 x 4096 x 2048": _short_convolution(8, 4096, 2048),
}
# Prefixes of XLA:GPU's custom calls, the first match counts.
_LIBRARIES = {
    "__cudnn$": "cuDNN",
    "__cublas$": "cuBLAS",
    "__gpu$xla.gpu.ptx": "CUDA",
    "__triton": "Triton",
    "__gpu$": "Triton",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One compiled program, as one GPU runs it.

    Attributes:
      case: what was compiled.
      what: "forward", "gradients" or "training step".
      kernels: the number of distinct kernels of each kind.
      launches: the number of kernel launches; each pass of a loop counts.
      collectives: the number of collectives.
      sent_mb: megabytes that a GPU sends.
      traffic_gb: gigabytes read and written.
      temporaries_mib: peak of temporary memory, without library workspaces.
      compile_seconds: seconds to trace and compile.
    """

    case: str
    what: str
    kernels: dict[str, int]
    launches: int
    collectives: int
    sent_mb: float
    traffic_gb: float
    temporaries_mib: float
    compile_seconds: float


def row(case: str, what: str, text: str, temporaries: int, seconds: float, num_devices: int) -> Row:
    """Counts kernels, collectives and bytes of a compiled program."""
    program = Program(text)
    kernels = list(program.kernels())
    found = collectives(program, num_devices)
    return Row(
        case,
        what,
        dict(collections.Counter(_kind(kernel, program) for kernel in kernels)),
        sum(kernel.times for kernel in kernels),
        sum(collective.count for collective in found),
        sum(collective.sent for collective in found) / 1e6,
        memory_traffic(program) / 1e9,
        temporaries / 2**20,
        seconds,
    )


def _kind(kernel: Kernel, program: Program) -> str:
    instruction = kernel.instruction
    names = (instruction, *(inner.instruction for inner in program.inside(kernel)))
    for called in (name.attributes for name in names):
        for mark, library in _LIBRARIES.items():
            if mark in called:
                return library
    return "fusion" if instruction.opcode == "fusion" else "other"


def compile_operator(name: str, gradients: bool, topology: str) -> Row:
    """One operator in bfloat16 on one GPU."""
    operator = OPERATORS[name]
    devices = abstract_devices(topology)[:1]
    sharding = NamedSharding(make_mesh({"data": 1, "fsdp": 1}, devices), PartitionSpec())
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding) for shape in operator.shapes
    ]

    def backward(g: jax.Array, *arguments: jax.Array) -> Any:
        return jax.vjp(operator.function, *arguments)[1](g)

    started = time.perf_counter()
    if gradients:
        lowered = jax.jit(backward).lower(arguments[0], *arguments)
    else:
        lowered = jax.jit(operator.function).lower(*arguments)
    compiled = lowered.compile(compiler_options(topology))
    seconds = time.perf_counter() - started
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    what = "gradients" if gradients else "forward"
    return row(name, what, compiled.as_text(), temporaries, seconds, 1)


def compile_model(module: str, variant: str, topology: str) -> Row:
    """The training step of a config, in bfloat16."""
    config = importlib.import_module(module).get_config(variant)
    config.model.dtype = "bfloat16"
    step = compile_step(config, topology)
    if step.cost is None:
        raise MemoryError(f"{config.model.name}: {step.refusal}")
    case = f"{config.model.name}, batch {config.batch_size}"
    memory, devices = step.cost.memory, step.run.mesh.size
    return row(case, "training step", step.text, memory.temporaries, step.seconds, devices)


_HEADER = (
    "case", "what", "kernels", "launches", "collectives", "MB sent", "GB moved", "MiB temporary",
    "compile s",
)  # fmt: skip


def print_row(row: Row) -> None:
    """Prints one line of the table."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(row.kernels.items()))
    print_cells(
        row.case, row.what, f"{sum(row.kernels.values())}: {kinds}", str(row.launches),
        str(row.collectives), f"{row.sent_mb:.1f}", f"{row.traffic_gb:.3g}",
        f"{row.temporaries_mib:,.0f}", f"{row.compile_seconds:.1f}",
    )  # fmt: skip


def write(path: Path, facts: dict[str, Any], rows: Sequence[Row]) -> None:
    """Writes `path`.json with everything and `path`.png with the kernels by kind."""
    write_json(path.with_suffix(".json"), {"machine": facts}, rows)
    if rows:
        _draw_kernels(path.with_suffix(".png"), rows)


def _draw_kernels(path: Path, rows: Sequence[Row]) -> None:
    models = [row for row in rows if row.what == "training step"]
    groups = [group for group in ([row for row in rows if row not in models], models) if group]
    size = (9, 2 + 0.3 * len(rows))
    with figure(path, len(groups), figsize=size, squeeze=False) as panels:
        for axes, group in zip(panels[:, 0], groups, strict=True):
            labels = [f"{row.case}, {row.what}" for row in group]
            left = [0] * len(group)
            for kind in sorted({kind for row in group for kind in row.kernels}):
                counts = [row.kernels.get(kind, 0) for row in group]
                axes.barh(labels, counts, left=left, label=kind)
                left = [start + count for start, count in zip(left, counts, strict=True)]
            axes.invert_yaxis()
            axes.set_xlabel("distinct kernels")
            axes.legend()


def cases(topology: str) -> dict[str, Callable[[], Row]]:
    """What to compile, by the name that `--only` searches."""
    compilations: dict[str, Callable[[], Row]] = {}
    for name, gradients in itertools.product(OPERATORS, (False, True)):
        what = f"{name} {'gradients' if gradients else 'forward'}"
        compilations[what] = functools.partial(compile_operator, name, gradients, topology)
    for module, variant in MODELS:
        compilations[f"{module}:{variant}"] = functools.partial(
            compile_model, module, variant, topology
        )
    return compilations


def main(options: argparse.Namespace) -> None:
    """Compiles what `--only` selects; writes the files even when interrupted."""
    jax.config.update("jax_platforms", "cpu")
    facts = {"topology": options.topology, "jax": jax.__version__, "run on hardware": "nothing"}
    print(f"## Compiled for {options.topology}, jax {jax.__version__}; nothing was run\n")
    print_header(*_HEADER)
    rows: list[Row] = []
    try:
        for name, compile_case in cases(options.topology).items():
            if options.only in name:
                rows.append(compile_case())
                print_row(rows[-1])
    finally:
        write(options.output, facts, rows)


def parse_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="h100:8", help="as for --mode=compile of main.py")
    parser.add_argument("--only", default="", help="compile only cases whose name contains this")
    output = Path("runs/benchmarks/gpu")
    parser.add_argument("--output", type=Path, default=output, help="output path without suffix")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_options())
