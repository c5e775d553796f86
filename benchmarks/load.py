"""Detects other processes on the CPU: a single busy core can bias a comparison up to 10x.

A peer whose threads meet at a barrier waits for the slowest of them. Measurements during which
another process held a core are therefore discarded, not averaged.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_TICK_NOISE = 0.03  # seconds: the kernel counts ticks of 10 ms, per process and in total
_SHARE = 0.15  # of an interval that others may use


class ForeignLoad:
    """Compares the machine's busy time with that of `pids` and their children, on Linux."""

    def __init__(self, pids: Sequence[int]):
        self.pids = list(pids)
        self.watches = Path("/proc/stat").exists()

    def start(self) -> None:
        """Begins an interval."""
        self._began, self._foreign = time.perf_counter(), self._foreign_seconds()

    def was_seen(self) -> bool:
        """Whether other processes used a notable share of the CPU since `start`."""
        allowed = max(_TICK_NOISE, _SHARE * (time.perf_counter() - self._began))
        return self._foreign_seconds() - self._foreign > allowed

    def _foreign_seconds(self) -> float:
        if not self.watches:
            return 0.0
        own = {descendant for pid in self.pids for descendant in _family(pid)}
        return _busy_seconds() - sum(map(_process_seconds, own))


def _busy_seconds() -> float:
    user, nice, system, _, _, irq, softirq, steal = _first_line("/proc/stat").split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(relative for child in children for relative in _family(int(child)))]


def _process_seconds(pid: int) -> float:
    # The process name may contain spaces; count fields after its closing parenthesis.
    fields = _first_line(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _first_line(path: str) -> str:
    with open(path) as file:
        return file.readline()
