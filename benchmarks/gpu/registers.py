"""Assembles the CUDA kernels for an H100, without a GPU: `python -m benchmarks.gpu.registers`.

Needs NVRTC and `ptxas` (a CUDA toolkit, or the wheel nvidia-cuda-nvcc). It prints what limits how
many blocks a multiprocessor runs at once, and the bytes of registers that spill to memory.
"""

import argparse
import dataclasses
import itertools
import re
import subprocess
import tempfile
from collections.abc import Iterator

from benchmarks.output import print_cells, print_header
from benchmarks.stages import STAGES
from dwconv_jax.ops.lowerings.gpu.attention_kernels import (
    AttentionCase,
    Neighborhood,
    plans,
)
from dwconv_jax.ops.lowerings.gpu.choice import forward_plans, gradient_plans
from dwconv_jax.ops.lowerings.gpu.plan import Case, Plan
from dwconv_jax.ops.lowerings.gpu.ptx_call import compile_plan

BATCH, KERNELS = 128, (3, 7, 13, 31)
_ARCHITECTURE = "sm_90"
_REGISTERS, _THREADS, _SHARED = 65_536, 2048, 227 * 1024  # of a multiprocessor
_RESERVED = 1024  # bytes of shared memory of a block


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a block takes.

    Attributes:
      registers: of a thread.
      spilled: bytes of a thread that spill to memory.
      shared: bytes of shared memory.
      blocks: that a multiprocessor runs at once.
    """

    registers: int
    spilled: int
    shared: int
    blocks: int


def assemble(plan: Plan) -> Resources:
    """Assembles a kernel; raises CalledProcessError where ptxas refuses it."""
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as source:
        source.write(compile_plan(plan))
        source.flush()
        command = ["ptxas", "-v", f"-arch={_ARCHITECTURE}", source.name, "-o", "/dev/null"]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return parse(report, plan)


def parse(report: str, plan: Plan) -> Resources:
    """Reads the report of `ptxas -v`."""

    def number(pattern: str) -> int:
        found = re.search(pattern, report)
        return int(found[1]) if found else 0

    registers, threads = number(r"Used (\d+) registers"), plan.block[0] * plan.block[1]
    shared = number(r"(\d+) bytes smem") + plan.shared_bytes
    allocated = -(-registers // 8) * 8
    blocks = min(
        _REGISTERS // (allocated * -(-threads // 32) * 32),
        _THREADS // threads,
        _SHARED // (shared + _RESERVED),
    )
    return Resources(registers, number(r"(\d+) bytes spill stores"), shared, blocks)


def convolutions() -> Iterator[Case]:
    """What to assemble: the maps of the tiny models, static and per-image kernels, both dtypes."""
    for (size, channels), k in itertools.product(STAGES, KERNELS):
        yield Case((BATCH, size, size, channels), (k, k))
    size, channels = STAGES[2]
    yield Case((BATCH, size, size, channels), (7, 7), per_image=True)
    yield Case((BATCH, size, size, channels), (7, 7), bfloat16=False)
    yield Case((BATCH, size, size, channels), (7, 7), (2, 2))


def attentions() -> Iterator[AttentionCase]:
    """Neighborhood attention on the same maps, with and without biases, both dtypes."""

    def case(place: tuple[int, int], k: int = 7, depth: int = 32, **kind: bool) -> AttentionCase:
        size, channels = place
        along = Neighborhood(k, dilation=1, before=k // 2, clamp=True)
        shape = (BATCH, size, size, channels // depth, depth)
        return AttentionCase(shape, along, along, depth**-0.5, **kind)

    yield from map(case, STAGES)
    yield case(STAGES[2], bias=True)
    yield case(STAGES[2], bfloat16=False)
    yield case(STAGES[2], depth=64)
    yield case(STAGES[2], k=13)


def kernels() -> Iterator[tuple[str, str, Plan]]:
    """Every kernel to assemble, after its map and its taps in words."""
    for conv in convolutions():
        _, height, width, channels = conv.shape
        kind = ("bf16" if conv.bfloat16 else "f32") + (", per image" if conv.per_image else "")
        dilation = "" if conv.dilation == (1, 1) else f", dilation {conv.dilation[0]}"
        for plan in (*forward_plans(conv), *gradient_plans(conv)):
            taps = "x".join(map(str, conv.kernel_size))
            yield f"{height}x{width}x{channels} {kind}{dilation}", taps, plan
    for case in attentions():
        _, height, width, heads, depth = case.shape
        kind = ("bf16" if case.bfloat16 else "f32") + (", bias" if case.bias else "")
        taps = f"{case.rows.kernel_size}x{case.columns.kernel_size}"
        for plan in plans(case):
            yield f"{height}x{width}, {heads} heads of {depth} {kind}", taps, plan


def main() -> None:
    """Prints one line for each kernel of each case."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"## Assembled for {_ARCHITECTURE}; nothing was run\n")
    print_header(
        "map", "taps", "kernel", "grid", "threads", "registers", "spilled", "shared", "blocks"
    )
    for place, taps, plan in kernels():
        print_cells(
            place,
            taps,
            plan.kernel,
            "x".join(map(str, plan.grid)),
            str(plan.block[0] * plan.block[1]),
            *map(str, dataclasses.astuple(assemble(plan))),
        )


if __name__ == "__main__":
    main()
