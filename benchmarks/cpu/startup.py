"""How long programs take to start: `python -m benchmarks.cpu.startup`.

Every number is the median over fresh processes, in seconds of wall time.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.output import print_cells, print_header

_OURS = """
import time; start = time.perf_counter()
import jax
from flax import nnx
import dwconv_jax
print(time.perf_counter() - start); start = time.perf_counter()
for _ in range(2):
    model = dwconv_jax.create_model("{name}", rngs=nnx.Rngs(0))
    jax.block_until_ready(nnx.state(model, nnx.Param))
    print(time.perf_counter() - start); start = time.perf_counter()
"""
_TIMM = """
import time; start = time.perf_counter()
import timm
print(time.perf_counter() - start); start = time.perf_counter()
for _ in range(2):
    timm.create_model("{name}")
    print(time.perf_counter() - start); start = time.perf_counter()
"""


def printed_seconds(python: str, script: str) -> list[float]:
    """The numbers that a script prints."""
    result = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True)
    return [float(line) for line in result.stdout.split()]


def first_step() -> list[float]:
    """Seconds from the start of `main.py` with configs/digits.py to the log of its first step."""
    with tempfile.TemporaryDirectory() as workdir:
        command = (
            sys.executable, "main.py", "--config=configs/digits.py", f"--workdir={workdir}",
            "--config.log_every_steps=1",
        )  # fmt: skip
        start = time.perf_counter()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if " step 1/" in line:
                    seconds = time.perf_counter() - start
                    process.kill()
                    return [seconds]
    raise RuntimeError("main.py ended before its first step")


def medians(measure: Callable[[], list[float]], repeats: int) -> list[float]:
    """The median of each number over some measurements."""
    return [
        statistics.median(values)
        for values in zip(*(measure() for _ in range(repeats)), strict=True)
    ]


def main(options: argparse.Namespace) -> None:
    """Prints a table of seconds."""
    print_header("program", "import", "first model", "second model", "first step")
    sides = [("dwconv_jax", sys.executable, _OURS)]
    if options.torch_python:
        sides.append(("timm", options.torch_python, _TIMM))
    for name, python, script in sides:
        seconds = medians(
            lambda python=python, script=script: printed_seconds(
                python, script.format(name=options.model)
            ),
            options.repeats,
        )
        print_cells(f"{name}, {options.model}", *(f"{value:.2f}" for value in seconds), "")
    print_cells("main.py, digits", "", "", "", f"{medians(first_step, options.repeats)[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="convnext_tiny", help="that timm has, too")
    parser.add_argument("--torch-python", help="a Python that has timm")
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args())
