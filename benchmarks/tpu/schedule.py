"""Static cycles of compiled TPU programs, from the schedule that the compiler dumps.

For each kernel, libtpu writes its final VLIW bundles, of which one issues per cycle, and a profile
that includes the stalls known to the scheduler. A kernel's cycles are its bundles, multiplied by
the trip counts of the loops around them, times the profile's ratio of cycles to bundles. Waits for
HBM and kernel launches are not included: a program takes at least the larger of these cycles and
its bytes over the bandwidth.
"""

import dataclasses
import math
import operator
import re
from collections.abc import Iterator
from pathlib import Path

_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(?P<label>[A-Z]{2}:)?\s*:?\s*(?:>\s*)*\{")
_STARTS = re.compile(r"Start(?:/End empty)? region (\d+)")
_BACK_EDGE = re.compile(r"sbr\.rel \(!%(p\d+)\w*\) target = \$region(\d+)")
_SKIP = re.compile(r"sbr\.rel \(%(p\d+)\w*\) target = \$region(\d+)")
_EXIT_TEST = r"%{}\w* = scmp\.ge\.s32\.totalorder (?:\(%\w+\), )?%(\w+), (\d+) /\* loop exit test"
_STEP = r"%{} = sadd\.s32 (\d+), "
_COMPARED = r"%{}\w* = scmp\.(\w+)\.s32\.totalorder %(\w+), (\d+)"
_AXIS = r"%{} = sphi [^;]*iter bound = (\d+)"
_GRID = re.compile(r"iteration_bounds: \(([\d, ]+)\)")
_PROFILE_NAME = re.compile(r"^HLO: (?:ROOT )?%?([\w.\-]+) =")
# This slot takes one instruction per cycle, so its denominator counts cycles.
_PROFILE_CYCLES = re.compile(r"^ - VECTOR_EUP: \([\d.]+/([\d.]+)\)")
_DELAY_SLOTS = 4


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Cycles of one kernel; `exact` is False if a loop's trip count was not in the code."""

    cycles: float
    exact: bool


def kernels(dump: Path) -> dict[str, Kernel]:
    """The kernels of the program dumped into the folder `dump`, by their HLO names."""
    stalls = _stalls(dump)
    found = {}
    for path in sorted(dump.glob("*-final_bundles.txt")):
        name = re.sub(r"^\d+-|-\d+-final_bundles\.txt$", "", path.name)
        if name == "TLP" or name.startswith("<") or "schedule-analysis" in name:
            continue
        bundles = list(_bundles(path.read_text(errors="replace")))
        issued, exact = _issued(bundles)
        found[name] = Kernel(issued * stalls.get(name, len(bundles)) / len(bundles), exact)
    return found


def _bundles(text: str) -> Iterator[str]:
    """The bundles, each with the comment lines that follow it."""
    lines: list[str] = []
    for line in text.splitlines():
        if _BUNDLE.match(line):
            if lines:
                yield "\n".join(lines)
            lines = []
        elif not lines:
            continue
        lines.append(line)
    if lines:
        yield "\n".join(lines)


def _issued(bundles: list[str]) -> tuple[float, bool]:
    """The number of bundles issued, and whether all trip counts are known."""
    starts = {region: i for i, b in enumerate(bundles) for region in _STARTS.findall(b)}
    weights, exact = [1.0] * len(bundles), True
    for edge, bundle in enumerate(bundles):
        branch = _BACK_EDGE.search(bundle)
        start = starts.get(branch[2], edge) if branch else edge
        if branch is None or start >= edge:
            continue
        body = range(start, min(len(bundles), edge + 1 + _DELAY_SLOTS))
        text = "\n".join(bundles[i] for i in body)
        trips, grid = _trips(text, branch[1]), _grid(text)
        exact &= trips is not None
        for i in body:
            weights[i] *= trips or 1
        if (
            trips and grid and math.prod(grid) < trips
        ):  # steps that only fill and drain the pipeline
            for i in _skipped(bundles, body, starts):
                weights[i] *= math.prod(grid) / trips
        for guarded, share in _guards(bundles, body, starts, grid):
            for i in guarded:
                weights[i] *= share
    return sum(weights), exact


def _trips(body: str, predicate: str) -> int | None:
    """The trip count of a loop that counts from 0 until `predicate` holds."""
    test = re.search(_EXIT_TEST.format(predicate), body)
    if test is None:
        return None
    step = re.search(_STEP.format(test[1]), body)
    return -(-int(test[2]) // (int(step[1]) if step else 1))


def _grid(body: str) -> tuple[int, ...]:
    """The grid of a pipelined loop; empty for an ordinary loop."""
    grids = [tuple(map(int, re.findall(r"\d+", bounds))) for bounds in _GRID.findall(body)]
    return max(grids, key=len, default=())


def _jumps(
    bundles: list[str], body: range, starts: dict[str, int]
) -> Iterator[tuple[str, int, int]]:
    """The predicate, bundle and target of each forward branch in a loop."""
    for i in body:
        branch = _SKIP.search(bundles[i])
        target = starts.get(branch[2], 0) if branch else 0
        if branch and i < target < body.stop:
            yield branch[1], i, target


def _skipped(bundles: list[str], body: range, starts: dict[str, int]) -> list[int]:
    """Bundles of a loop that its outermost forward branches skip."""
    skipped: list[int] = []
    for _, i, target in _jumps(bundles, body, starts):
        if i not in skipped:
            skipped += range(i + 1, target)
    return skipped


def _guards(
    bundles: list[str], body: range, starts: dict[str, int], grid: tuple[int, ...]
) -> Iterator[tuple[range, float]]:
    """Bundles that only some steps of a grid run (`pl.when`), with the share of those steps."""
    text = "\n".join(bundles[i] for i in body)
    for predicate, i, target in _jumps(bundles, body, starts):
        compared = re.search(_COMPARED.format(predicate), text)
        axis = compared and re.search(_AXIS.format(compared[2]), text)
        if compared and axis and int(axis[1]) < len(grid):
            jumps = getattr(operator, compared[1])
            places = range(grid[int(axis[1])])
            runs = sum(not jumps(place, int(compared[3])) for place in places)
            yield range(i + 1, target), runs / len(places)


def _stalls(dump: Path) -> dict[str, float]:
    """Cycles of one pass over each HLO's bundles, stalls known to the scheduler included."""
    cycles: dict[str, float] = {}
    for path in dump.glob("*hlo-static-bundle-profile.txt"):
        name = None
        for line in path.read_text().splitlines():
            if line.startswith("HLO:"):
                found = _PROFILE_NAME.match(line)
                name = found[1] if found else None
            elif name and (count := _PROFILE_CYCLES.match(line)):
                cycles[name] = float(count[1])
    return cycles
