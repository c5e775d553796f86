"""The collectives of a compiled program: how the devices of a mesh communicate."""

import dataclasses
import math
import re
from collections.abc import Iterator

from dwconv_jax.aot.hlo import Instruction, Kernel, Program, array_bytes

_KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """The collectives of one kind in a step, among groups of one size.

    Attributes:
      kind: "all-reduce", "all-gather", ...
      group: the number of devices in a group.
      count: the number in a step.
      payload: bytes of all their arrays; an array that is split over devices counts as a whole.
    """

    kind: str
    group: int
    count: int
    payload: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends with the least possible traffic (a ring)."""
        if self.kind.startswith("collective-"):
            return self.payload
        return (2 if self.kind == "all-reduce" else 1) * self.payload * (1 - 1 / self.group)


def collectives(program: Program, num_devices: int) -> list[Collective]:
    """Returns the collectives of a program for `num_devices`, heaviest first."""
    sums: dict[tuple[str, int], list[int]] = {}
    for kernel in _kernels(program):
        kind, group = _kind(kernel.instruction), _group_size(kernel.instruction, num_devices)
        entry = sums.setdefault((kind, group), [0, 0])
        entry[0] += kernel.times
        entry[1] += kernel.times * _given(kernel) * (group if kind == "all-gather" else 1)
    found = (Collective(kind, group, *entry) for (kind, group), entry in sums.items() if group > 1)
    return sorted(found, key=lambda c: -c.sent)


def _kernels(program: Program) -> Iterator[Kernel]:
    """Yields each collective once; those that overlap with other work come in several pieces."""
    seen = set()
    for top in program.kernels():
        for kernel in (top, *program.inside(top)):
            channel = re.search(r"channel_id=(\d+)", kernel.instruction.attributes)
            key = _kind(kernel.instruction), channel[1] if channel else kernel.instruction.name
            if key[0] in _KINDS and key not in seen:
                seen.add(key)
                yield kernel


def _kind(instruction: Instruction) -> str:
    return instruction.opcode.removesuffix("-start")


def _given(kernel: Kernel) -> int:
    """Returns the bytes that a device contributes to a collective."""
    operands = (kernel.computation[name] for name in kernel.instruction.operands)
    return sum(sum(array_bytes(operand.shape)) for operand in operands)


def _group_size(instruction: Instruction, num_devices: int) -> int:
    """Returns the number of devices in the first group; XLA writes groups in four ways."""
    attributes = instruction.attributes
    if "source_target_pairs" in attributes:
        return 2
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])  # a part of an axis has its size
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
        return int(iota[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(listed[1].split(","))
    return num_devices
