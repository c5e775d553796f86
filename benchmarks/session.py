"""What the benchmark programs share: options, peers, lowerings, and the loop over comparisons."""

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
from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel
from dwconv_jax.training.host_memory import reuse_host_memory

Label = tuple[str, str, str]  # case, what, lowering


class Session:
    """Measures and prints rows; writes them when the program ends."""

    def __init__(self, title: str, options: argparse.Namespace, torch: TorchPeer | None):
        self.pairs, self.output, self.torch = options.pairs, options.output, torch
        self.facts = report.machine(os.cpu_count() or 1, torch.version if torch else None)
        self.rows: list[report.Row] = []
        report.print_heading(title, self.facts)

    def lowerings(self) -> list[str]:
        """XLA, and the compiled kernel where it was built."""
        return ["XLA", "kernel"] if cpu_kernel.is_built() else ["XLA"]

    def against_torch(
        self, label: Label, call: Callable, arguments: tuple, case: str, details: dict[str, Any]
    ) -> None:
        """A row for `call(*arguments)`, to be jitted, against a case of the PyTorch peer."""
        ours, seconds = self._compile(label, call, arguments)
        self.measure_against_torch(label, seconds, ours, case, details)

    def against(
        self, label: Label, call: Callable, arguments: tuple, peer_name: str, peer: Timer
    ) -> None:
        """A row for `call(*arguments)`, to be jitted, against a peer in this process."""
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
        """A row for what took `seconds` to compile; none where there is no PyTorch."""
        if self.torch is None:
            return
        peer = functools.partial(self.torch.seconds, case, details)
        self._add(label, seconds, peer_name, compare(ours, peer, self.torch, self.pairs))

    def measure_against(self, label: Label, ours: Timer, peer: Timer) -> Comparison:
        """A row for what needs no compilation, against PyTorch."""
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
    """Traces inside use the compiled kernel ("kernel") or not ("XLA")."""
    name, value = "DWCONV_JAX_CPU_KERNEL", "1" if lowering == "kernel" else "0"
    before = os.environ.get(name)
    os.environ[name] = value
    jax.clear_caches()  # the choice is made when a function is traced
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def session(title: str, options: argparse.Namespace) -> Iterator[Session]:
    """A session with the peer running; files are written at the end, also after an interruption.

    Our side reuses memory as main.py does; the peer does as the environment says.
    """
    reuse_host_memory()
    torch = start_torch(options.torch_python, os.cpu_count() or 1)
    with torch or contextlib.nullcontext():
        running = Session(title, options, torch)
        try:
            yield running
        finally:
            report.write(options.output, running.facts, running.rows)


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """The options that the benchmark programs share."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--torch-python", default=sys.executable, help="interpreter with PyTorch")
    options.add_argument("--pairs", type=int, default=9, help="undisturbed pairs for each row")
    options.add_argument("--only", default="", help="measure cases whose name contains this")
    output = Path("runs/benchmarks") / name
    options.add_argument("--output", type=Path, default=output, help="where to write, no suffix")
    return options
