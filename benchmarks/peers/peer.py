"""PyTorch as a peer: a subprocess that may run under another interpreter."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

SERVER = Path(__file__).with_name("torch_server.py")
# What `reuse_host_memory` sets, as glibc reads it when a process starts.
_REUSE_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


class Peer:
    """A server that answers questions, one JSON line each; use as a context manager."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.version = self._read()["version"]

    @property
    def pid(self) -> int:
        """The process, whose load is not foreign."""
        return self._process.pid

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the PyTorch peer stopped; its error is printed above")
        return json.loads(line)


class TorchPeer(Peer):
    """Times cases of `torch_server.py`."""

    def __init__(self, python: str, threads: int, reuse_memory: bool):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if reuse_memory:
            environment |= _REUSE_MEMORY
        super().__init__([python, str(SERVER), str(threads)], environment)

    def seconds(self, case: str, arguments: dict[str, Any], repeats: int) -> float:
        """Mean seconds of `repeats` calls of `case`, which is set up first unless it is current.

        Raises:
          ModuleNotFoundError: if the peer's interpreter lacks a package of the case.
        """
        answer = self.ask({"case": case, "arguments": arguments, "repeats": repeats})
        if "missing" in answer:
            raise ModuleNotFoundError(f"its Python has no {answer['missing']}")
        return answer["seconds"]


def start_torch(python: str, threads: int, reuse_memory: bool) -> TorchPeer | None:
    """The peer, or None if that interpreter has no PyTorch."""
    has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    return TorchPeer(python, threads, reuse_memory) if has_torch else None
