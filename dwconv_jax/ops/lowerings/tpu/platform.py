"""Where this project's kernels for TPU run, and how much fast memory they have there."""

import contextlib
from collections.abc import Callable, Iterator

import jax
from jax import export, lax
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractDevice

from dwconv_jax.errors import UserError

# The kernels roll lanes by a stride, which libtpu refuses for these.
_WITHOUT_STRIDED_ROLL = ("TPU v2", "TPU v3", "TPU v4")
_FAST_MEMORY_OF_V5E = 128 * 2**20
_platforms = {"tpu"}


def check_chip() -> None:
    """ValueError where the device is a TPU that our kernels do not run on."""
    kind = _device().device_kind
    if kind.startswith(_WITHOUT_STRIDED_ROLL):
        raise UserError(
            f"lowering='pallas' needs TPU v5e, v5p, v6e or later, found {kind}; use lowering='auto'"
        )


def fast_memory() -> int:
    """Bytes of a core's fast memory (VMEM) that a kernel may take; v5e's where there is no TPU."""
    capacity = _FAST_MEMORY_OF_V5E
    if _device().platform == "tpu":
        capacity = pltpu.get_tpu_info().vmem_capacity_bytes
    return capacity * 55 // 64  # the rest is the compiler's


def _device() -> jax.Device | AbstractDevice:
    """That of the mesh which `jax.set_mesh` has set, or else the default one."""
    return jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]


def by_pallas(
    kernel: Callable[..., jax.Array], otherwise: Callable[..., jax.Array], *arrays: jax.Array
) -> jax.Array:
    """`kernel(*arrays)` on TPU, `otherwise(*arrays)` on other platforms and for any batch size."""
    if export.is_symbolic_dim(arrays[0].shape[0]):
        return otherwise(*arrays)
    return lax.platform_dependent(
        *arrays, default=otherwise, **dict.fromkeys(sorted(_platforms), kernel)
    )


@contextlib.contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Runs the kernels for TPU on CPU too, by Pallas's interpreter: for tests, it is slow."""
    _platforms.add("cpu")
    try:
        with pltpu.force_tpu_interpret_mode():
            yield
    finally:
        _platforms.remove("cpu")
