"""Runs a stage in processes of its own, so that nothing it does can cost what was measured.

The process announces each case and sends what it measured as JSON lines on its standard output. A
case that crashes or hangs becomes a row, and another process continues after it.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Exit statuses of a worker: there is no GPU; its GPU is lost, which its last row already tells.
NO_GPU, LOST_GPU = 3, 4
_START_SECONDS = 90.0  # imports, and finding the GPU

Write = Callable[[dict[str, Any]], None]


def supervise(command: Callable[[int], list[str]], limit: float, write: Write) -> None:
    """Runs the cases of a stage for at most `limit` seconds.

    Args:
      command: from the index of the first case to run to the command that runs it and the rest.
      limit: seconds.
      write: called with every row, which names its "case". Rows of cases that did not end well have
        an "error"; "cut" is where the time was over.
    """
    deadline = time.monotonic() + limit
    first: int | None = 0
    while first is not None:
        with _Process(command(first)) as process:
            first = _follow(process, deadline, write)


def _follow(process: "_Process", deadline: float, write: Write) -> int | None:
    """Writes the rows of a process. Returns the case for the next one to begin with, if any."""
    case, index, patience = "start", None, _START_SECONDS
    while True:
        try:
            message = process.read(min(patience, deadline - time.monotonic()))
        except TimeoutError:
            if time.monotonic() >= deadline:
                write({"case": case, "cut": "the time for this stage was over"})
                return None
            write({"case": case, "error": f"no result within {patience:g} s"})
            break
        if message is None:
            if (status := process.wait()) == NO_GPU:
                sys.exit(NO_GPU)
            if status != LOST_GPU:
                write({"case": case, "error": f"the process ended {_how(status)}"})
            break
        if "row" in message:
            write({"case": case} | message["row"])
        elif "begin" in message:
            case, index, patience = message["case"], message["begin"], message["seconds"]
        else:
            return None
    return None if index is None else index + 1


class _Process:
    """A worker and what it started, with its output read as it comes."""

    def __init__(self, command: list[str]):
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._forward, daemon=True)
        self._reader.start()

    def _forward(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._lines.put(line)
        self._lines.put(None)

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None where the output ends; raises TimeoutError."""
        try:
            line = self._lines.get(timeout=max(seconds, 0))
        except queue.Empty:
            raise TimeoutError from None
        return None if line is None else json.loads(line)

    def wait(self) -> int:
        return self._process.wait()

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()


def _how(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
