"""A compiled kernel as an operation of XLA.

The target is XLA's own: XLA loads the PTX with the program and launches it. It is internal to XLA,
and in the CUDA plugins of JAX 0.10 to 0.12.
"""

import functools
import os
from typing import Any

import jax

from dwconv_jax.ops.lowerings.gpu import nvrtc
from dwconv_jax.ops.lowerings.gpu.plan import Plan

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kernels")
_TARGET = "__gpu$xla.gpu.ptx"
_ESCAPES = str.maketrans({"\\": "\\5C", '"': "\\22", "\n": "\\0A", "\t": "\\09"})


def call(plan: Plan, result: Any, *arrays: jax.Array) -> Any:
    """Runs a kernel on a GPU.

    Args:
      plan: the kernel and its launch.
      result: the type of what it writes, or a tuple of them.
      *arrays: what it reads.

    Returns:
      An array of the type `result`, or several.
    """
    config = _config(plan)
    operation = jax.ffi.ffi_call(
        _TARGET, result, custom_call_api_version=1, legacy_backend_config=config
    )
    return operation(*arrays)


def compile_plan(plan: Plan) -> str:
    """The PTX of a kernel."""
    return nvrtc.compile_ptx(os.path.join(SOURCES, f"{plan.kernel}.cu"), plan.definitions)


@functools.cache
def _config(plan: Plan) -> str:
    """The kernel and its launch, as an attribute dictionary of MLIR."""
    ptx = compile_plan(plan).translate(_ESCAPES)
    sizes = dict(zip(("grid_x", "grid_y", "grid_z"), plan.grid, strict=True))
    sizes |= dict(zip(("block_x", "block_y", "block_z"), plan.block, strict=True))
    sizes["shared_mem_bytes"] = plan.shared_bytes
    numbers = ", ".join(f"{name} = {size} : i32" for name, size in sizes.items())
    return f'{{name = "{plan.kernel}", kernel_type = "ptx", kernel_data = "{ptx}", {numbers}}}'
