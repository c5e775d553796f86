"""Where this project's TPU kernels run, and how much fast memory they have."""

import contextlib
from collections.abc import Callable, Iterator

import jax
from jax import export, lax
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractDevice

from dwconv_jax.errors import UserError

# The kernels roll lanes by a stride, which libtpu does not support on these.
_WITHOUT_STRIDED_ROLL = ("TPU v2", "TPU v3", "TPU v4")
_FAST_MEMORY_OF_V5E = 128 * 2**20
_platforms = {"tpu"}


def check_chip() -> None:
    """Raises UserError if the device is a TPU that the kernels do not support."""
    kind = _device().device_kind
    if kind.startswith(_WITHOUT_STRIDED_ROLL):
        raise UserError(
            f"lowering='pallas' needs TPU v5e, v5p, v6e or later, found {kind}; use lowering='auto'"
        )


def fast_memory() -> int:
    """Bytes of a core's fast memory (VMEM) that a kernel may use; v5e's without a TPU."""
    capacity = _FAST_MEMORY_OF_V5E
    if _device().platform == "tpu":
        capacity = pltpu.get_tpu_info().vmem_capacity_bytes
    return capacity * 55 // 64  # leaves the rest to the compiler


def _device() -> jax.Device | AbstractDevice:
    """The device of the mesh set by `jax.set_mesh`, or else the default device."""
    return jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]


def by_pallas(
    kernel: Callable[..., jax.Array], otherwise: Callable[..., jax.Array], *arrays: jax.Array
) -> jax.Array:
    """`kernel(*arrays)` on TPU; `otherwise` elsewhere and for a symbolic batch size."""
    if export.is_symbolic_dim(arrays[0].shape[0]):
        return otherwise(*arrays)
    return lax.platform_dependent(
        *arrays, default=otherwise, **dict.fromkeys(sorted(_platforms), kernel)
    )


@contextlib.contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Runs the TPU kernels on CPU too, by Pallas's interpreter: slow, for tests."""
    _platforms.add("cpu")
    try:
        with pltpu.force_tpu_interpret_mode():
            yield
    finally:
        _platforms.remove("cpu")
