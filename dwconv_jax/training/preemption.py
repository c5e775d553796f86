"""Stopping at a step when the machine is to be taken away: SIGTERM."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preempted(SystemExit):
    """Ends the program with 143 = 128 + SIGTERM, as shells and schedulers report that signal."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class PreemptionWatch:
    """Tells at which step to stop after a SIGTERM; a context manager that listens for it.

    Several processes agree on the step, whichever of them was told: JAX listens for the signal and
    passes it on since `jax.distributed.initialize`. A single process listens by itself.
    """

    def __init__(self) -> None:
        self._told = False

    def __enter__(self) -> "PreemptionWatch":
        # Python lets only the main thread listen.
        self._listens = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )
        if self._listens:
            self._previous = signal.signal(signal.SIGTERM, self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step; to be asked by all processes, after every step."""
        return self._told or multihost_utils.reached_preemption_sync_point(step)

    def _listen(self, *_: int | FrameType | None) -> None:
        self._told = True
