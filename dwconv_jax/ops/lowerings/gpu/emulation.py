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

import jax
import numpy as np

from dwconv_jax.ops.lowerings.gpu import platform
from dwconv_jax.ops.lowerings.gpu.plan import Plan
from dwconv_jax.ops.lowerings.gpu.ptx_call import SOURCES

_DRIVER = """
#include "emulate.h"
#include "{kernel}.cu"
extern "C" void run(const void* a, const void* b, void* result) {{
  emulation::launch({{ {grid} }}, {{ {block} }}, {kernel}, a, b, result);
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


def launch(plan: Plan, result: jax.ShapeDtypeStruct, *arrays: jax.Array) -> jax.Array:
    """Runs a kernel; see `ptx_call.call`."""

    def run(*arrays: jax.Array) -> np.ndarray:
        inputs = [np.ascontiguousarray(array) for array in arrays]
        output = np.zeros(result.shape, result.dtype)
        with _one_at_a_time:
            function = _build(plan)
        function(*(array.ctypes.data_as(ctypes.c_void_p) for array in (*inputs, output)))
        return output

    return jax.pure_callback(run, result, *arrays)


@functools.cache
def _build(plan: Plan) -> Callable[..., None]:
    """The launch of a plan as a function of addresses."""
    sizes = {name: ", ".join(map(str, getattr(plan, name))) for name in ("grid", "block")}
    with tempfile.TemporaryDirectory() as folder:
        source, library = os.path.join(folder, "run.cc"), os.path.join(folder, "run.so")
        with open(source, "w") as file:
            file.write(_DRIVER.format(kernel=plan.kernel, **sizes))
        flags = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-I{SOURCES}", *plan.definitions]
        subprocess.run(["g++", *flags, "-o", library, source], check=True)
        # Holding Python's lock makes launches take turns: an emulated block is a set of globals.
        return ctypes.PyDLL(library).run
