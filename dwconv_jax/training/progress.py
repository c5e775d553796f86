"""Measures how fast a run is."""

import contextlib
import datetime
import time
from collections.abc import Iterator


class Stopwatch:
    """Measures the time of training, without pauses for evaluation and checkpoints."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._paused = 0.0
        self._lap = self._started

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes the time inside from the next lap."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def lap(self) -> float:
        """Returns the seconds of training since the last lap."""
        now = time.perf_counter()
        seconds, self._lap, self._paused = now - self._lap - self._paused, now, 0.0
        return seconds

    @property
    def total(self) -> float:
        """Seconds since the start, pauses included."""
        return time.perf_counter() - self._started


def duration(seconds: float) -> str:
    """Formats seconds as `h:mm:ss`."""
    return str(datetime.timedelta(seconds=round(seconds)))
