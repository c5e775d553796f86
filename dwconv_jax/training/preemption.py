"""Stops a run at a step when it is told to: SIGTERM, or the first SIGINT (Ctrl-C)."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from dwconv_jax.training.logs import log


class Preempted(SystemExit):
    """Exits with 128 + the signal, as shells and schedulers report it: 143 or 130."""

    def __init__(self, received: int = signal.SIGTERM) -> None:
        super().__init__(128 + received)


class PreemptionWatch:
    """Decides when to stop after a SIGTERM or a SIGINT; a context manager that listens for them.

    It listens from the first call of `reached`: before the first step there is nothing to save, and
    signals act as usual. After one of them, a SIGINT ends the process at once.

    Several processes agree on when to stop, whichever of them gets the signal: JAX listens for
    SIGTERM and passes it on after `jax.distributed.initialize`. A single process listens by itself.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "PreemptionWatch":
        return self

    def __exit__(self, *_: object) -> None:
        for received, handler in self._previous.items():
            signal.signal(received, handler or signal.SIG_DFL)

    def reached(self) -> bool:
        """Whether to stop now; all processes must ask equally often."""
        if self._asked == 0:
            self._listen()
        self._asked += 1
        if self._received is None and multihost_utils.reached_preemption_sync_point(self._asked):
            self._received = signal.SIGTERM
        return self._received is not None

    def stop(self) -> Preempted:
        """Returns the exception that ends the process after the state has been saved."""
        return Preempted(self._received or signal.SIGTERM)

    def _listen(self) -> None:
        # Only the main thread of Python may set signal handlers.
        if threading.current_thread() is not threading.main_thread():
            return
        self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._receive)
        if jax.process_count() == 1:
            self._previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, received: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if jax.process_count() > 1:  # a SIGINT, which JAX does not pass on
            signal.raise_signal(signal.SIGTERM)
        else:
            self._received = received
        log.info(
            f"received {signal.Signals(received).name}: saving a checkpoint and stopping; Ctrl-C "
            "stops at once"
        )
