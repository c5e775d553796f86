"""PyTorch beside ours, where an interpreter has it."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.peers import peer

_SERVER = Path(peer.__file__).with_name("torch_gpu.py")


@functools.cache
def has(module: str, settings: Settings) -> bool:
    """Whether the interpreter for PyTorch finds a module, without importing it."""
    program = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({module!r}))"
    return subprocess.run([settings.torch_python, "-c", program]).returncode == 0


def missing(module: str, settings: Settings) -> Case:
    """The line that tells why its rows are not there."""

    def skip() -> Iterator[dict[str, Any]]:
        yield {"skipped": f"{settings.torch_python} has no {module}"}

    return Case(module, skip)


def ask(settings: Settings, case: str, **arguments: Any) -> dict[str, Any]:
    """What `torch_gpu.py` measured; its "error" if it failed."""
    try:
        return _start(settings).ask({"case": case, "arguments": arguments})
    except (RuntimeError, OSError):  # it ended; the next question starts another
        _start.cache_clear()
        raise


@functools.cache
def _start(settings: Settings) -> peer.Peer:
    device = "cpu" if settings.dry_run else "cuda"
    return peer.Peer([settings.torch_python, str(_SERVER), device])
