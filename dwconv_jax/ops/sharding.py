"""Meshes with explicit axes, which `jax.make_mesh` makes by default.

There every array has its sharding in its type, and JAX refuses operations whose result could be
split in several ways, reshaping and convolution among them. Such parts of a layer are left to XLA,
and only the sharding of their result is stated.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

Axes = Any  # the names of the mesh axes that split one axis of an array


def split_of(x: jax.Array) -> tuple[Axes, ...]:
    """The explicit mesh axes that split each axis of `x`, None for none."""
    spec = jax.typeof(x).sharding.spec
    return (*spec, *(None,) * (x.ndim - len(spec)))


def by_xla(
    function: Callable[..., Any], *arguments: Any, split: tuple[Axes, ...] | list[Any]
) -> Any:
    """`function(*arguments)`, partitioned by XLA where the mesh has explicit axes.

    Args:
      function: closes over no arrays.
      *arguments: trees of arrays.
      split: the mesh axes that split each axis of the result; see `split_of`. A list of them for
        several results.
    """
    meshes = (jax.typeof(array).sharding.mesh for array in jax.tree.leaves(arguments))
    mesh = next((mesh for mesh in meshes if mesh.explicit_axes), None)
    if mesh is None:
        return function(*arguments)
    splits = split if isinstance(split, list) else [split]
    shardings = tuple(NamedSharding(mesh, PartitionSpec(*axes)) for axes in splits)
    out_sharding = shardings if isinstance(split, list) else shardings[0]
    automatic = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=out_sharding)
    return automatic(*arguments)


def by_image(function: Callable[..., Any], *arguments: Any) -> Any:
    """`by_xla` where all results have an entry for each image, as the first argument has."""
    return by_xla(function, *arguments, split=split_of(jax.tree.leaves(arguments)[0])[:1])
