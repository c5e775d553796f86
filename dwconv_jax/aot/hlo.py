"""Parses the text of a program that XLA optimized (`compiled.as_text()`).

Every backend writes this text in the same form: the program of one device, with shapes, layouts
and groups of devices.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_NAME = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(r"\b(pred|token|opaque|[a-z]+[0-9][a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
_ITEM_BITS = {"pred": 8, "token": 0, "opaque": 0}
# Memory next to the processor: TPU's VMEM and its relatives.
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
    r"(?:to_apply|body|condition|calls|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|called_computations)=\{([^}]*)\}"
)
# They only name memory or wait for it.
_IDLE = {
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "optimization-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `name = shape opcode(arguments), attributes`."""

    name: str
    shape: str
    opcode: str
    arguments: str
    attributes: str
    is_root: bool

    @functools.cached_property
    def operands(self) -> list[str]:
        """Names of the instructions whose results it reads."""
        return _NAME.findall(self.arguments)

    @functools.cached_property
    def called(self) -> list[str]:
        """Names of the computations that it runs."""
        found = (one or many for one, many in _CALLED.findall(self.attributes))
        return [name.strip(" %") for names in found for name in names.split(",")]


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """An instruction that runs as one step, its computation, and how often it runs."""

    instruction: Instruction
    computation: Computation
    times: int


class Program:
    """An optimized program, parsed."""

    def __init__(self, text: str):
        """Raises a ValueError if the text is not an HLO program."""
        self.computations: dict[str, Computation] = {}
        self._entry, current = "", None
        for line in text.splitlines():
            if heading := _COMPUTATION.match(line):
                current = self.computations.setdefault(heading[2], {})
                self._entry = heading[2] if heading[1] else self._entry
            elif current is not None and (found := _INSTRUCTION.match(line)):
                root, name, shape, opcode, rest = found.groups()
                end = _closing_parenthesis(rest)
                current[name] = Instruction(
                    name, shape, opcode, rest[:end], rest[end:], root is not None
                )
        if not self._entry:
            raise ValueError("the text is no HLO program: it has no ENTRY")

    def kernels(self) -> Iterator[Kernel]:
        """Yields what runs one after the other; loops are entered, a fusion is one step."""
        yield from self._kernels(self._entry, 1)

    def inside(self, kernel: Kernel) -> Iterator[Kernel]:
        """Yields the instructions inside a kernel, at any depth."""
        for name in kernel.instruction.called:
            computation = self.computations.get(name, {})
            for instruction in computation.values():
                inner = Kernel(instruction, computation, kernel.times)
                yield inner
                yield from self.inside(inner)

    def _kernels(self, name: str, times: int) -> Iterator[Kernel]:
        computation = self.computations[name]
        for instruction in computation.values():
            if instruction.opcode in ("while", "conditional", "call"):
                trips = _TRIPS.search(instruction.attributes)
                for called in instruction.called:
                    yield from self._kernels(called, times * (int(trips[1]) if trips else 1))
            elif instruction.opcode not in _IDLE and not instruction.opcode.endswith("-done"):
                yield Kernel(instruction, computation, times)


def array_bytes(shape: str) -> list[int]:
    """Returns the bytes of an array, or of each array of a tuple."""
    return [bytes_ for bytes_, _ in _arrays(shape)]


def main_memory_bytes(shape: str) -> list[int]:
    """Like `array_bytes`, with 0 for arrays in on-chip memory."""
    return [0 if on_chip else bytes_ for bytes_, on_chip in _arrays(shape)]


def _arrays(shape: str) -> Iterator[tuple[int, bool]]:
    for dtype, dimensions, layout in _ARRAY.findall(shape):
        bits = _item_bits(dtype) * math.prod(int(d) for d in dimensions.split(",") if d)
        yield -(-bits // 8), _ON_CHIP.search(layout) is not None


def _item_bits(dtype: str) -> int:
    bits = _ITEM_BITS.get(dtype)
    return int(re.findall(r"\d+", dtype)[0]) if bits is None else bits


def _closing_parenthesis(text: str) -> int:
    """Returns the position of the parenthesis that closes one opened before `text`."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return i
    return len(text)
