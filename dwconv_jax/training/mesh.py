"""The device mesh and where arrays live on it.

The batch is split over both mesh axes. Parameters and optimizer state are split over `fsdp`, along
their largest divisible axis, and replicated over `data`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dwconv_jax.errors import UserError

AXES = ("data", "fsdp")
# Splitting smaller arrays costs more communication than it saves memory.
_MIN_SHARDED_SIZE = 2**12


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Creates a mesh of devices.

    Args:
      shape: sizes of the axes 'data' and 'fsdp'; one may be -1 for the remaining devices.
      devices: by default all devices.

    Raises:
      UserError: if the sizes do not multiply to the number of devices.
    """
    if set(shape) != set(AXES):
        raise UserError(f"config.mesh must have the axes {AXES}, got {tuple(shape)}")
    devices = jax.devices() if devices is None else devices
    sizes, count = [shape[axis] for axis in AXES], len(devices)
    fixed = int(np.prod([s for s in sizes if s != -1]))
    if sizes.count(-1) == 1 and fixed > 0 and count % fixed == 0:
        sizes = [count // fixed if s == -1 else s for s in sizes]
    if min(sizes) < 1 or int(np.prod(sizes)) != count:
        raise UserError(
            f"config.mesh={dict(shape)} does not multiply to the {count} devices; "
            "one axis may be -1 to take what remains"
        )
    # Explicit axes, the default, do not allow the reshapes that cut maps into windows.
    return jax.make_mesh(
        tuple(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_sharding(mesh: Mesh, state: Any) -> Any:
    """Returns a sharding for each array of a (possibly abstract) state, from its shape alone."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _spec(leaf.shape, mesh)), state)


def _spec(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    fsdp = mesh.shape["fsdp"]
    divisible = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or np.prod(shape) < _MIN_SHARDED_SIZE or not divisible:
        return PartitionSpec()
    largest = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*("fsdp" if axis == largest else None for axis in range(len(shape))))


def to_devices(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Makes global arrays of this process's share of a batch."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, array), dict(batch)
    )
