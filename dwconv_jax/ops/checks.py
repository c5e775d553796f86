"""Argument checks; their errors name the argument, what was found and what is legal."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Connectivity


def check_choice(name: str, value: Any, legal: tuple[Any, ...]) -> None:
    """Raises a UserError unless `value` is one of the legal ones."""
    if value not in legal:
        raise UserError(f"{name} must be one of {', '.join(map(repr, legal))}, got {value!r}")


def check_groups(groups: int, channels: int, name: str = "groups") -> None:
    """Raises a UserError unless `groups` divides `channels`."""
    if groups < 1 or channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        raise UserError(
            f"{name}={groups} must divide the {channels} channels: legal are {divisors}"
        )


def check_map(x: jax.Array, name: str = "x", num_axes: int | None = 2) -> None:
    """Raises a ValueError unless `x` is floating `[B, *spatial, C]` with no empty axis.

    Args:
      x: the array.
      name: of the argument, for errors.
      num_axes: how many spatial axes there must be; None for one to three.
    """
    axes = {None: "*spatial", 1: "L", 2: "H, W", 3: "D, H, W"}[num_axes]
    legal = range(3, 6) if num_axes is None else (num_axes + 2,)
    if x.ndim not in legal or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floating [B, {axes}, C] with no empty axis, got {x.dtype}{[*x.shape]}"
        )


def check_operands(x: jax.Array, weights: jax.Array, connectivity: Connectivity) -> None:
    """Raises a ValueError unless `weights` is `[B or 1, N or 1, Q, K, G]` for `x`."""
    if not isinstance(connectivity, Connectivity):
        raise UserError(
            f"connectivity must be an ops.Connectivity such as ops.Sliding(7), got {connectivity!r}"
        )
    check_map(x, num_axes=connectivity.num_axes)
    batch, *size, channels = x.shape
    connectivity.check(*size)
    blocks, outputs, seen = connectivity.block_shape(*size)
    wanted = f"[{_either(batch)}, {_either(blocks)}, {outputs}, {seen}, G]"
    if weights.ndim != 5 or not _fits(weights.shape, (batch, blocks, outputs, seen)):
        raise ValueError(
            f"weights for {connectivity} on a {' x '.join(map(str, size))} map with batch {batch} "
            f"must be {wanted}, got shape {weights.shape}"
        )
    check_groups(weights.shape[-1], channels, "the last axis of weights, G")


def _either(size: int) -> str:
    return "1" if size == 1 else f"{size} or 1"


def _fits(shape: Sequence[int], sizes: tuple[int, int, int, int]) -> bool:
    batch, blocks, outputs, seen = sizes
    return shape[0] in (1, batch) and shape[1] in (1, blocks) and shape[2:4] == (outputs, seen)


def check_boxes(boxes: jax.Array, name: str = "boxes") -> None:
    """Raises a ValueError unless `boxes` is a floating `[..., 4]`."""
    if not boxes.shape or boxes.shape[-1] != 4 or not jnp.issubdtype(boxes.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floating [..., 4] as x1, y1, x2, y2, got {boxes.dtype}{[*boxes.shape]}"
        )


def check_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    additional_keys: jax.Array | None,
    additional_values: jax.Array | None,
) -> None:
    """Raises UserError unless the shapes of `ops.neighborhood_attention` fit."""
    check_map(query.reshape(*query.shape[:-2], -1), "query", num_axes=None)
    *outer, heads, width = query.shape
    for name, array in dict(key=key, value=value).items():
        if array.ndim != query.ndim or [*array.shape[:-2]] != outer or heads % array.shape[-2]:
            raise UserError(
                f"{name} must be [{', '.join(map(str, outer))}, kv_heads, D] with kv_heads "
                f"dividing the {heads} heads of query, got shape {[*array.shape]}"
            )
    if key.shape[-1] != width or key.shape[-2] != value.shape[-2]:
        raise UserError(
            f"key must be as wide as query ({width}) and have as many heads as value "
            f"({value.shape[-2]}), got shape {[*key.shape]}"
        )
    if (additional_keys is None) != (additional_values is None):
        raise UserError("additional_keys and additional_values go together, got one of them")
    for name, own, like in (
        ("additional_keys", additional_keys, key),
        ("additional_values", additional_values, value),
    ):
        if own is None:
            continue
        batch, *_, kv_heads, depth = like.shape
        fits = own.ndim == 4 and (own.shape[0], *own.shape[2:]) == (batch, kv_heads, depth)
        if not fits or own.shape[1] == 0:
            raise UserError(
                f"{name} must be [{batch}, M, {kv_heads}, {depth}] with M at least 1, got shape "
                f"{[*own.shape]}"
            )
