"""What the CPU benchmarks share: options, the PyTorch peer, lowerings and rows."""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks import report
from benchmarks.peers.peer import TorchPeer, start_torch
from benchmarks.timing import Comparison, Timer, compare, compile_function, timer
from dwconv_jax.host_memory import reuse_host_memory
from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel

Label = tuple[str, str, str]  # case, what, lowering


class Session:
    """Measures and prints rows; `session` writes them at the end."""

    def __init__(self, title: str, options: argparse.Namespace, torch: TorchPeer | None):
        self.pairs, self.output, self.torch = options.pairs, options.output, torch
        version = torch.version if torch else None
        self.facts = report.machine(os.cpu_count() or 1, version) | {"memory": options.memory}
        self.rows: list[report.Row] = []
        report.print_heading(title, self.facts)

    def lowerings(self) -> list[str]:
        """ "XLA", and "kernel" where the compiled kernel was built."""
        return ["XLA", "kernel"] if cpu_kernel.is_built() else ["XLA"]

    def against_torch(
        self,
        label: Label,
        call: Callable,
        arguments: tuple,
        case: str,
        details: dict[str, Any],
        peer_name: str = "PyTorch",
    ) -> None:
        """Adds a row: jitted `call(*arguments)` against a case of the PyTorch peer."""
        ours, seconds = self._compile(label, call, arguments)
        self.measure_against_torch(label, seconds, ours, case, details, peer_name)

    def against(
        self, label: Label, call: Callable, arguments: tuple, peer_name: str, peer: Timer
    ) -> None:
        """Adds a row: jitted `call(*arguments)` against a peer in this process."""
        ours, seconds = self._compile(label, call, arguments)
        self._add(label, seconds, peer_name, compare(ours, peer, None, self.pairs))

    def measure_against_torch(
        self,
        label: Label,
        seconds: float,
        ours: Timer,
        case: str,
        details: dict[str, Any],
        peer_name: str = "PyTorch",
    ) -> None:
        """Adds a row for a call that took `seconds` to compile; does nothing without the peer."""
        if self.torch is None:
            return
        peer = functools.partial(self.torch.seconds, case, details)
        try:
            times = compare(ours, peer, self.torch, self.pairs)
        except ModuleNotFoundError as error:
            print(f"{', '.join(label)}: {peer_name} is left out, since {error}", flush=True)
            return
        self._add(label, seconds, peer_name, times)

    def measure_against(self, label: Label, ours: Timer, peer: Timer) -> Comparison:
        """Adds a row against PyTorch for a call that needs no compilation."""
        times = compare(ours, peer, self.torch, self.pairs)
        self._add(label, 0.0, "PyTorch", times)
        return times

    def _compile(self, label: Label, call: Callable, arguments: tuple) -> tuple[Timer, float]:
        with using(label[2]):
            compiled, seconds = compile_function(call, *arguments)
        return timer(lambda: compiled(*arguments)), seconds

    def _add(self, label: Label, seconds: float, peer_name: str, times: Comparison) -> None:
        self.rows.append(report.Row(*label, peer_name, seconds, times))
        report.print_row(self.rows[-1])


@contextlib.contextmanager
def using(lowering: str) -> Iterator[None]:
    """Functions traced inside use the compiled kernel ("kernel") or only XLA ("XLA")."""
    name, value = "DWCONV_JAX_CPU_KERNEL", "1" if lowering == "kernel" else "0"
    before = os.environ.get(name)
    os.environ[name] = value
    jax.clear_caches()  # tracing makes the choice
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def session(title: str, options: argparse.Namespace) -> Iterator[Session]:
    """Starts the peer, gives a session, and writes its files even when interrupted."""
    if reuses_memory(options):
        reuse_host_memory()
    torch = start_torch(options.torch_python, os.cpu_count() or 1, reuses_memory(options))
    with torch or contextlib.nullcontext():
        running = Session(title, options, torch)
        try:
            yield running
        finally:
            report.write(options.output, running.facts, running.rows)


def reuses_memory(options: argparse.Namespace) -> bool:
    """Whether both sides keep the memory that they free, as `dwconv-jax` does."""
    return options.memory == "reused"


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """The options that the CPU benchmarks share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--torch-python", default=sys.executable, help="interpreter with PyTorch")
    options.add_argument("--pairs", type=int, default=9, help="undisturbed pairs of each row")
    options.add_argument("--only", default="", help="measure only cases whose name contains this")
    options.add_argument(
        "--memory",
        choices=("plain", "reused"),
        default="reused",
        help="plain: as any process; reused: both sides keep the memory that they free",
    )
    output = Path("runs/benchmarks") / name
    options.add_argument("--output", type=Path, default=output, help="output path without suffix")
    return options
