"""Runs a kernel on each device's own images, since XLA cannot split custom kernels."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec


def split_images(
    call: Callable[..., Any], *arrays: jax.Array, maps: int, sums: bool = False
) -> Any:
    """Returns `call(*arrays)`, run on every device of the mesh set by `jax.set_mesh`.

    All axes of the mesh split the images. Without a mesh, or if its size does not divide the number
    of images, this is a single call.

    Args:
      call: the function to run on the arrays, or on a device's part of them.
      *arrays: maps `[B, ...]`, then parameters, which are replicated.
      maps: the number of maps.
      sums: whether results are sums over images, rather than maps.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1 or mesh.manual_axes or arrays[0].shape[0] % mesh.size:
        return call(*arrays)
    axes, whole = mesh.axis_names, PartitionSpec()
    split = PartitionSpec(axes)

    def local(*parts: jax.Array) -> Any:
        result = call(*parts)
        return lax.psum(result, axes) if sums else result

    return jax.shard_map(
        local,
        in_specs=tuple(split if i < maps else whole for i in range(len(arrays))),
        out_specs=whole if sums else split,
        check_vma=False,
    )(*arrays)
