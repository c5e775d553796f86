"""Where the CUDA kernels run, and what runs elsewhere."""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import export, lax

from dwconv_jax.errors import UserError
from dwconv_jax.ops.lowerings.gpu import nvrtc, ptx_call

# `(plan, type of the result, or types, *arrays)` to what the kernel writes.
Launch = Callable[..., Any]
_emulators: dict[str, Launch] = {}


def check_gpu() -> None:
    """Raises UserError if the device is an NVIDIA GPU that the kernels do not support."""
    capability = getattr(jax.devices()[0], "compute_capability", "")
    if re.fullmatch(r"[0-7]\.\d+", capability):
        raise UserError(
            "lowering='cuda' needs compute capability 8.0 (Ampere) or later, found "
            f"{capability}; use lowering='auto'"
        )


def is_bfloat16(*arrays: jax.Array) -> bool:
    """Whether arrays are bfloat16 rather than float32; raises UserError for others and mixtures."""
    dtypes = sorted({str(array.dtype) for array in arrays})
    if dtypes not in (["bfloat16"], ["float32"]):
        raise UserError(
            f"lowering='cuda' takes arrays that are all float32 or all bfloat16, got "
            f"{' and '.join(dtypes)}; use lowering='auto'"
        )
    return dtypes == ["bfloat16"]


def by_cuda(kernel: Callable[..., Any], otherwise: Callable[..., Any], *arrays: jax.Array) -> Any:
    """`kernel(launch, *arrays)` on NVIDIA GPUs, `otherwise(*arrays)` elsewhere.

    Without NVRTC, and for symbolic sizes, it is `otherwise` everywhere.
    """
    sizes = itertools.chain.from_iterable(array.shape for array in arrays)
    if any(map(export.is_symbolic_dim, sizes)):
        return otherwise(*arrays)
    launches = {"cuda": ptx_call.call} if nvrtc.is_available() else {}
    launches |= _emulators
    branches = {name: functools.partial(kernel, launch) for name, launch in launches.items()}
    return lax.platform_dependent(*arrays, default=otherwise, **branches)


@contextlib.contextmanager
def launching_on(platform: str, launch: Launch) -> Iterator[None]:
    """Runs the kernels on another platform too."""
    _emulators[platform] = launch
    try:
        yield
    finally:
        del _emulators[platform]
