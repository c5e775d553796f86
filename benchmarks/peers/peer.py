"""PyTorch as a peer: a subprocess that may run under another interpreter."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("torch_server.py")


class TorchPeer:
    """Times cases of `torch_server.py`; use as a context manager."""

    def __init__(self, python: str, threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [python, str(SERVER), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.version = self._read()["version"]

    @property
    def pid(self) -> int:
        """The process, whose load is not foreign."""
        return self._process.pid

    def seconds(self, case: str, arguments: dict[str, Any], repeats: int) -> float:
        """Mean seconds of `repeats` calls of `case`, which is set up first unless it is current."""
        assert self._process.stdin is not None
        request = {"case": case, "arguments": arguments, "repeats": repeats}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()["seconds"]

    def __enter__(self) -> "TorchPeer":
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


def start_torch(python: str, threads: int) -> TorchPeer | None:
    """The peer, or None if that interpreter has no PyTorch."""
    has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    return TorchPeer(python, threads) if has_torch else None
