"""How the cost of a depth-wise convolution grows with the map and with its kernel."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from benchmarks.output import figure
from benchmarks.report import Row

MAPS = tuple((size, 7) for size in (14, 28, 56, 112, 224))  # (side of the map, side of the kernel)
KERNELS = tuple((56, kernel) for kernel in (3, 5, 7, 11, 15, 21, 31))
CASES = tuple(dict.fromkeys(MAPS + KERNELS))


def case_name(size: int, kernel: int) -> str:
    """The name of the rows of one size."""
    return f"growth {size}x{size}, k={kernel}"


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draws milliseconds over positions and over taps, ours and the peers', and linear growth."""
    panel_of = (
        ("positions of the map, 7x7 kernel", MAPS, 0),
        ("taps of the kernel, 56x56 map", KERNELS, 1),
    )
    with figure(path, 1, 2, figsize=(10, 4), sharey=True) as panels:
        for axes, (label, cases, side) in zip(panels, panel_of, strict=True):
            for name, times in _curves(rows).items():
                points = [(case[side] ** 2, times[case]) for case in cases if case in times]
                axes.loglog(*zip(*points, strict=True), marker="o", label=name)
            axes.loglog(*_straight(rows, cases, side), "k:", label="linear growth")
            axes.set_xlabel(label)
        panels[0].set_ylabel("ms, forward and gradients")
        panels[0].legend()


def _curves(rows: Sequence[Row]) -> dict[str, dict[tuple[int, int], float]]:
    """Milliseconds of each side in each measured case."""
    curves: dict[str, dict[tuple[int, int], float]] = {}
    for row, case in itertools.product(rows, CASES):
        if row.case == case_name(*case):
            curves.setdefault(f"ours, {row.lowering}", {})[case] = row.times.ours_ms
            curves.setdefault(row.peer, {})[case] = row.times.peer_ms
    return curves


def _straight(
    rows: Sequence[Row], cases: Sequence[tuple[int, int]], side: int
) -> tuple[list[int], list[float]]:
    """A line of slope one through the largest case of the first curve."""
    times = next(iter(_curves(rows).values()))
    ends = [cases[0][side] ** 2, cases[-1][side] ** 2]
    return ends, [times[cases[-1]] * end / ends[-1] for end in ends]
