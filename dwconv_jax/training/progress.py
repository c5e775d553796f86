"""Measures how fast a run is, and draws how far it is."""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from typing import Self

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text


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


class ProgressBar:
    """Draws steps, images a second and the time left below the log, on a terminal alone.

    A context manager. The bar appears with the first update, since a program that is killed while
    it compiles would leave it behind.
    """

    def __init__(
        self, num_steps: int, first_step: int, batch_size: int, console: Console | None = None
    ) -> None:
        console = console or Console(stderr=True, force_terminal=sys.stderr.isatty())
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            _ImagesPerSecond(batch_size),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            transient=True,
            disable=not console.is_terminal or jax.process_index() > 0,
        )
        self._task = self._progress.add_task("", total=num_steps, completed=first_step)
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, step: int) -> None:
        """Draws that a step has been taken."""
        if not self._progress.live.is_started:
            self._progress.start()
            self._console.show_cursor(True)  # a second Ctrl-C would leave it hidden
        self._progress.update(self._task, completed=step)


class _ImagesPerSecond(ProgressColumn):
    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self._batch_size = batch_size

    def render(self, task: Task) -> Text:
        """See the base class."""
        return Text(f"{(task.speed or 0) * self._batch_size:,.0f} images/s")


def duration(seconds: float) -> str:
    """Formats seconds as `h:mm:ss`."""
    return str(datetime.timedelta(seconds=round(seconds)))
