"""Runs a kernel on each device's own images: XLA cannot split what it has not written itself."""

from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec


def split_images(
    call: Callable[..., jax.Array], *arrays: jax.Array, maps: int, sums: bool = False
) -> jax.Array:
    """`call(*arrays)` on every device of the mesh that `jax.set_mesh` has set.

    All axes of the mesh split the images. Without a mesh, or where they do not divide the images,
    it is one call.

    Args:
      call: what to run on the arrays, or a device's part of them.
      *arrays: maps `[B, ...]`, then parameters, which devices have in full.
      maps: how many of the arrays are maps.
      sums: whether the result sums over images, rather than being a map.

    Returns:
      The result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1 or mesh.manual_axes or arrays[0].shape[0] % mesh.size:
        return call(*arrays)
    axes, whole = mesh.axis_names, PartitionSpec()
    split = PartitionSpec(axes)

    def local(*parts: jax.Array) -> jax.Array:
        result = call(*parts)
        return lax.psum(result, axes) if sums else result

    return jax.shard_map(
        local,
        in_specs=tuple(split if i < maps else whole for i in range(len(arrays))),
        out_specs=whole if sums else split,
        check_vma=False,
    )(*arrays)
