"""Stops a run at a step when the machine is about to be taken away: SIGTERM."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preempted(SystemExit):
    """Exits with 143 = 128 + SIGTERM, as shells and schedulers report that signal."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class PreemptionWatch:
    """Decides at which step to stop after a SIGTERM; a context manager that listens for it.

    Several processes agree on the step, whichever of them gets the signal: JAX listens for it and
    passes it on after `jax.distributed.initialize`. A single process listens by itself.
    """

    def __init__(self) -> None:
        self._told = False

    def __enter__(self) -> "PreemptionWatch":
        # Only the main thread of Python may set signal handlers.
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
        """Whether to stop after this step; all processes must ask after every step."""
        return self._told or multihost_utils.reached_preemption_sync_point(step)

    def _listen(self, *_: int | FrameType | None) -> None:
        self._told = True
