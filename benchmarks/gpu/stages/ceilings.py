"""What the card can do at most, and the versions at work."""

import functools
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.clock import copies, time_calls
from benchmarks.gpu.stages.case import Case, Settings
from dwconv_jax import ops

_PACKAGES = ("jaxlib", "flax", "optax", "jax-cuda12-plugin", "jax-cuda13-plugin",
             "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")  # fmt: skip
_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,power.limit,clocks.max.sm",
          "--format=csv,noheader")  # fmt: skip


def cases(settings: Settings) -> Sequence[Case]:
    """Versions, copy bandwidth, launch time, matrix product."""
    return (
        Case("versions", _versions),
        Case("copy, bfloat16", functools.partial(_copy, settings)),
        Case("launch of a program", functools.partial(_launch, settings)),
        Case("product, bfloat16", functools.partial(_product, settings, jnp.bfloat16)),
        Case("product, float32 (TF32)", functools.partial(_product, settings, jnp.float32)),
    )


@functools.cache
def copy_bandwidth(settings: Settings) -> float:
    """Bytes a second, read and written, of `x + 1`, far larger than the cache."""
    x = jnp.zeros(1 << (16 if settings.dry_run else 28), jnp.bfloat16)
    seconds, _ = time_calls(lambda x: x + 1, [(x,)], settings)
    return 2 * x.nbytes / seconds


def _versions() -> Iterator[dict[str, Any]]:
    installed = {d.name for d in importlib.metadata.distributions()}
    yield {
        "python": platform.python_version(),
        "versions": ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES if name in installed
        ),
        "lowerings": str(ops.describe_lowerings()),
    }
    if shutil.which(_QUERY[0]):
        answer = subprocess.run(_QUERY, capture_output=True, text=True, timeout=20)
        yield {"card": answer.stdout.strip()}


def _copy(settings: Settings) -> Iterator[dict[str, Any]]:
    yield {"TB/s": copy_bandwidth(settings) / 1e12}


def _launch(settings: Settings) -> Iterator[dict[str, Any]]:
    seconds, _ = time_calls(lambda x: x + 1, [(jnp.zeros(8),)], settings)
    yield {"us": seconds * 1e6}


def _product(settings: Settings, dtype: Any) -> Iterator[dict[str, Any]]:
    side = 64 if settings.dry_run else 8192
    a, b = copies(jax.random.normal(jax.random.key(0), (side, side), dtype), 2)
    seconds, _ = time_calls(jnp.matmul, [(a, b)], settings)
    yield {"TFLOP/s": 2 * side**3 / seconds / 1e12}
