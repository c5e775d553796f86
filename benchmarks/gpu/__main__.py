"""What XLA makes of us for eight H100s, without a GPU: `python -m benchmarks.gpu`.

Nothing is run. Counts of kernels, library calls, collectives and bytes are the compiler's; which
algorithm cuDNN and cuBLAS would pick, and every time, needs the hardware.
"""

import argparse
import collections
import dataclasses
import functools
import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from dwconv_jax import ops
from dwconv_jax.aot.collectives import collectives
from dwconv_jax.aot.compile import compile_step
from dwconv_jax.aot.hlo import Kernel, Program
from dwconv_jax.aot.topologies import abstract_devices, compiler_options
from dwconv_jax.aot.traffic import memory_traffic
from dwconv_jax.training.mesh import make_mesh

MODELS = (
    ("configs.imagenet", "dwnet_tiny"),
    ("configs.imagenet", "dynamic_dwnet_tiny"),
    ("configs.imagenet", "i_dynamic_dwnet_tiny"),
    ("configs.imagenet", "swin_tiny"),
    ("configs.ade20k", "dwnet_tiny"),
)
# The third stage of the tiny models, 128 images on each GPU.
BATCH, SIZE, CHANNELS, GROUPS, HEADS = 128, 14, 384, 32, 12
OPERATORS = {
    "depth-wise": ((1, 1, 1, 49, CHANNELS), ops.Sliding(7)),
    "pooled": ((BATCH, 1, 1, 49, CHANNELS), ops.Sliding(7)),
    "centre": ((BATCH, SIZE * SIZE, 1, 49, GROUPS), ops.Sliding(7)),
    "windows": ((BATCH, 4, 49, 49, HEADS), ops.Window(7)),
}
# How XLA:GPU calls what it runs.
_LIBRARIES = {"__cudnn$": "cuDNN", "__cublas$": "cuBLAS", "__triton": "Triton", "__gpu$": "Triton"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One compiled program, of one GPU.

    Attributes:
      case: what was compiled.
      what: "forward", "gradients" or "training step".
      kernels: how many distinct ones there are, by kind.
      launches: how many are started, loops counted as often as they run.
      collectives: how many.
      sent_mb: that a GPU sends.
      traffic_gb: read and written.
      temporaries_mib: at the peak; library workspaces are not in it.
      compile_seconds: tracing included.
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
    """Counts what a compiled program holds."""
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
    shape, connectivity = OPERATORS[name]
    devices = abstract_devices(topology)[:1]
    sharding = NamedSharding(make_mesh({"data": 1, "fsdp": 1}, devices), PartitionSpec())
    x, weights = (
        jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=sharding)
        for s in ((BATCH, SIZE, SIZE, CHANNELS), shape)
    )

    def forward(x: jax.Array, weights: jax.Array) -> jax.Array:
        return ops.locally_connected(x, weights, connectivity)

    def backward(x: jax.Array, weights: jax.Array, g: jax.Array) -> Any:
        return jax.vjp(forward, x, weights)[1](g)

    started = time.perf_counter()
    function, arguments = (backward, (x, weights, x)) if gradients else (forward, (x, weights))
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options(topology))
    seconds = time.perf_counter() - started
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    what = "gradients" if gradients else "forward"
    return row(
        f"{name} {SIZE}x{SIZE}x{CHANNELS}", what, compiled.as_text(), temporaries, seconds, 1
    )


def compile_model(module: str, variant: str, topology: str) -> Row:
    """A training step, as the config has it."""
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
    """One line of the table."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(row.kernels.items()))
    cells = (
        row.case, row.what, f"{sum(row.kernels.values())}: {kinds}", str(row.launches),
        str(row.collectives), f"{row.sent_mb:.1f}", f"{row.traffic_gb:.3g}",
        f"{row.temporaries_mib:,.0f}", f"{row.compile_seconds:.1f}",
    )  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)


def write(path: Path, facts: dict[str, Any], rows: Sequence[Row]) -> None:
    """`path`.json with everything and `path`.png with the kernels by kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": facts, "rows": [dataclasses.asdict(row) for row in rows]}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    if rows:
        _draw_kernels(path.with_suffix(".png"), rows)


def _draw_kernels(path: Path, rows: Sequence[Row]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    models = [row for row in rows if row.what == "training step"]
    groups = [group for group in ([row for row in rows if row not in models], models) if group]
    figure, panels = plt.subplots(
        len(groups), figsize=(9, 2 + 0.3 * len(rows)), layout="constrained", squeeze=False
    )
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
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(options: argparse.Namespace) -> None:
    """Compiles what `--only` selects; files are written also after an interruption."""
    jax.config.update("jax_platforms", "cpu")
    facts = {"topology": options.topology, "jax": jax.__version__, "run on hardware": "nothing"}
    print(f"## Compiled for {options.topology}, jax {jax.__version__}; nothing was run\n")
    print("| " + " | ".join(_HEADER) + " |\n" + "|---" * len(_HEADER) + "|", flush=True)
    compilations: dict[str, Callable[[], Row]] = {}
    for name in OPERATORS:
        for gradients in (False, True):
            what = f"{name} {'gradients' if gradients else 'forward'}"
            compilations[what] = functools.partial(
                compile_operator, name, gradients, options.topology
            )
    for module, variant in MODELS:
        compilations[f"{module}:{variant}"] = functools.partial(
            compile_model, module, variant, options.topology
        )
    rows: list[Row] = []
    try:
        for name, compile_case in compilations.items():
            if options.only in name:
                rows.append(compile_case())
                print_row(rows[-1])
    finally:
        write(options.output, facts, rows)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="h100:8", help="see --mode=compile of main.py")
    parser.add_argument("--only", default="", help="compile cases whose name contains this")
    output = Path("runs/benchmarks/gpu")
    parser.add_argument("--output", type=Path, default=output, help="where to write, no suffix")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_options())
