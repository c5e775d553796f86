"""Compiles a program for one TPU chip, without a TPU, and estimates its cost there."""

import atexit
import dataclasses
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# libtpu reads its options when it loads: import this module before anything asks for devices.
DUMP = Path(tempfile.mkdtemp(prefix="tpu_dump_"))
atexit.register(shutil.rmtree, DUMP, ignore_errors=True)
os.environ["LIBTPU_INIT_ARGS"] = (
    f"--xla_jf_dump_to={DUMP} --xla_jf_dump_llo_text=true"
    # Two of the 71 stages of each kernel: a training step dumps 17 GB otherwise.
    " --xla_jf_dump_llo_pass_label_regex=final_bundles|static-bundle-profile"
)

import jax  # noqa: E402
from jax.experimental.layout import Format, Layout  # noqa: E402
from jax.sharding import SingleDeviceSharding  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from benchmarks.tpu import schedule as tpu_schedule  # noqa: E402
from dwconv_jax.aot.compile import compile_step  # noqa: E402
from dwconv_jax.aot.topologies import abstract_devices  # noqa: E402
from dwconv_jax.training.mesh import make_mesh  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device of a TPU: clock in GHz, HBM in bytes a second, bfloat16 products a second."""

    topology: str
    clock: float
    bandwidth: float
    flops: float


# The clocks follow from the published peaks and the sizes of the units.
CHIPS = {
    "v4": Chip("v4:2x2x1", 1.05, 1228e9, 275e12),
    "v5e": Chip("v5e:1x1", 1.5, 819e9, 197e12),
    "v5p": Chip("v5p:2x2x1", 1.75, 2765e9, 459e12),
    "v6e": Chip("v6e:1x1", 1.75, 1640e9, 918e12),
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Static costs of a program: for each kernel, the longer of its cycles and its bytes.

    `exact` is False if a loop's trip count was unknown or a kernel's schedule missing.
    """

    micros: float
    cycle_micros: float
    hbm_micros: float
    hbm_megabytes: float
    ideal_megabytes: float
    temporary_megabytes: float
    compile_seconds: float
    exact: bool
    kernels: dict[str, float]


def estimate(function: Callable[..., Any], arguments: tuple[Any, ...], chip: Chip) -> Estimate:
    """Compiles `function` for arguments of given shapes, in layouts that the compiler picks."""
    device = abstract_devices(chip.topology)[0]
    form = Format(Layout.AUTO, SingleDeviceSharding(device))
    _clear_dump()
    start = time.perf_counter()
    jitted = jax.jit(function, in_shardings=form, out_shardings=form)
    with jax.set_mesh(make_mesh({"data": 1, "fsdp": 1}, [device])):
        compiled = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    shapes = [*jax.tree.leaves(arguments), *jax.tree.leaves(jax.eval_shape(function, *arguments))]
    ideal = sum(math.prod(s.shape) * s.dtype.itemsize for s in shapes)
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return _cost(compiled.as_text(), chip, ideal, temporaries, seconds)


def estimate_step(config: ConfigDict, chip: Chip) -> tuple[Estimate, float]:
    """Compiles the training step of a config, and counts the matrix operations of one device.

    Raises:
      MemoryError: if the step does not fit into the chip's memory.
    """
    _clear_dump()
    step = compile_step(config, chip.topology)
    if step.cost is None:
        raise MemoryError(step.refusal)
    memory = step.cost.memory
    state = memory.parameters + memory.optimizer  # both read and written
    cost = _cost(step.text, chip, 2 * state + memory.batch, memory.temporaries, step.seconds)
    return cost, step.operations.divided_by(step.run.mesh.size).matrix


def _clear_dump() -> None:
    for path in DUMP.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _cost(hlo: str, chip: Chip, ideal: int, temporaries: int, seconds: float) -> Estimate:
    schedules = tpu_schedule.kernels(DUMP)
    instructions = list(_instructions(hlo))
    by_signature = {i.signature: schedules[i.name] for i in instructions if i.name in schedules}
    micros = cycle_micros = hbm_bytes = 0.0
    exact, kernels = True, {}
    for i in instructions:
        # The dump holds equal kernels once.
        schedule = schedules.get(i.name) or by_signature.get(i.signature)
        exact &= schedule.exact if schedule else not i.is_kernel
        cycles = schedule.cycles / chip.clock / 1e3 if schedule else 0.0
        kernels[i.name] = max(cycles, i.hbm_bytes / chip.bandwidth * 1e6)
        micros += kernels[i.name]
        cycle_micros += cycles
        hbm_bytes += i.hbm_bytes
    return Estimate(
        micros,
        cycle_micros,
        hbm_bytes / chip.bandwidth * 1e6,
        hbm_bytes / 1e6,
        ideal / 1e6,
        temporaries / 1e6,
        seconds,
        exact,
        dict(sorted(kernels.items(), key=lambda kernel: -kernel[1])[:8]),
    )


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    signature: tuple[Any, ...]
    hbm_bytes: int
    is_kernel: bool


_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all")
_LINE = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?)\s([a-z][\w\-]*)\((.*)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\](\{[^}]*\})?")
_TILE = re.compile(r"T\((\d+)(?:,(\d+))?\)")


def _instructions(hlo: str) -> Iterator[_Instruction]:
    """The instructions of the entry computation, with the bytes they move through HBM."""
    types: dict[str, str] = {}
    for line in hlo.split("\nENTRY", 1)[1].splitlines():
        parts = _LINE.match(line)
        if parts is None:
            continue
        name, result, opcode, rest = parts.groups()
        types[name] = result
        if opcode in _FREE or opcode.endswith("-done") or "ConcatBitcast" in rest:
            continue
        operands = [types.get(o, "") for o in re.findall(r"%([\w.\-]+)", rest.split("), ")[0])]
        if opcode.endswith("-start"):  # a copy between HBM and fast memory: the smaller side
            moved = min(filter(None, (_bytes(a) for a in _ARRAY.finditer(result))), default=0)
        else:
            moved = sum(_hbm_bytes(text) for text in (result, *operands))
            moved -= _bytes_left_alone(hlo, rest)
        signature = (opcode, *(re.sub(r"S\(1\)", "", text) for text in (result, *operands)))
        is_kernel = opcode in ("fusion", "custom-call", "convolution", "copy", "reduce")
        yield _Instruction(name, signature, moved, is_kernel)


def _hbm_bytes(types: str) -> int:
    """Bytes of the arrays outside fast memory."""
    arrays = _ARRAY.finditer(types)
    return sum(_bytes(a) for a in arrays if not re.search(r"S\([1-9]\)", a[3] or ""))


def _bytes_left_alone(hlo: str, call: str) -> int:
    """Bytes of operands and results that an in-place update neither reads nor writes."""
    called = re.search(r"calls=%([\w.\-]+)", call)
    if called is None:
        return 0
    fused = hlo.partition(f"\n%{called[1]} (")[2].partition("\n}")[0]
    update = re.search(r"= (\S+) dynamic-update-slice\(%([\w.\-]+), %([\w.\-]+)", fused)
    if update is None:
        return 0
    result, array, part = update.groups()
    is_operand = re.search(rf"%{re.escape(array)} = \S+ parameter", fused) is not None
    part_type = re.search(rf"%{re.escape(part)} = (\S+) ", fused)
    written = _hbm_bytes(part_type[1]) if part_type else 0
    return (1 + is_operand) * _hbm_bytes(result) - written


def _bytes(array: re.Match[str]) -> int:
    """Bytes of an array, padded to its tiles; 0 for scalars, which are a copy's context."""
    sizes = [int(size) for size in array[2].split(",") if size]
    if not sizes:
        return 0
    layout = array[3] or ""
    order = re.match(r"\{([\d,]+)", layout)
    minor_first = [sizes[int(i)] for i in order[1].split(",")] if order else sizes[::-1]
    if tile := _TILE.search(layout):
        tiles = [int(size) for size in tile.groups() if size][::-1]
        for i, size in enumerate(tiles[: len(minor_first)]):
            minor_first[i] = -(-minor_first[i] // size) * size
    bits = 8 if array[1] == "pred" else int(re.sub(r"\D", "", array[1])[:2])
    return math.prod(minor_first) * bits // 8
