"""Runs the CUDA kernels on CPU, every thread a coroutine: slow, for tests.

`kernels/emulate.h` gives a C++ compiler what the sources need of CUDA.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from dwconv_jax.ops.lowerings.gpu import platform
from dwconv_jax.ops.lowerings.gpu.plan import Plan
from dwconv_jax.ops.lowerings.gpu.ptx_call import SOURCES

_DRIVER = """
#include "emulate.h"
#include "{kernel}.cu"
extern "C" void run(const Index* sizes, void* const* arrays) {{
  emulation::launch(sizes[0], sizes[1], {kernel}, arrays);
}}
"""
_one_at_a_time = threading.Lock()


def is_available() -> bool:
    """Whether there is a C++ compiler to emulate with; coroutines need Linux."""
    return sys.platform == "linux" and shutil.which("g++") is not None


@contextlib.contextmanager
def emulated_kernels() -> Iterator[None]:
    """Runs the kernels on CPU too. What was traced before keeps XLA's lowering."""
    with platform.launching_on("cpu", launch):
        yield


def launch(plan: Plan, result: Any, *arrays: jax.Array) -> Any:
    """Runs a kernel; see `ptx_call.call`."""

    def run(*arrays: jax.Array) -> Any:
        inputs = [np.ascontiguousarray(array) for array in arrays]
        outputs = jax.tree.map(lambda type: np.zeros(type.shape, type.dtype), result)
        both = (*inputs, *jax.tree.leaves(outputs))
        with _one_at_a_time:
            function = _build(plan.kernel, plan.definitions)
        sizes = (ctypes.c_int * 6)(*plan.grid, *plan.block)
        function(sizes, (ctypes.c_void_p * len(both))(*(array.ctypes.data for array in both)))
        return outputs

    return jax.pure_callback(run, result, *arrays)


@functools.cache
def _build(kernel: str, definitions: tuple[str, ...]) -> Callable[..., None]:
    """The launch of a kernel as a function of sizes and of the addresses of arrays."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = os.path.join(folder, "run.cc"), os.path.join(folder, "run.so")
        with open(source, "w") as file:
            file.write(_DRIVER.format(kernel=kernel))
        flags = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-I{SOURCES}", *definitions]
        subprocess.run(["g++", *flags, "-o", library, source], check=True)
        # Holding Python's lock makes launches take turns: an emulated block is a set of globals.
        return ctypes.PyDLL(library).run
