"""Neighborhood attention and its gradients by the CUDA kernels; devices split the images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Sliding
from dwconv_jax.ops.connectivity.sliding import SlidingAxis
from dwconv_jax.ops.lowerings.bilinear import equally_varying, merge_batches
from dwconv_jax.ops.lowerings.gpu.attention_kernels import (
    AttentionCase,
    Neighborhood,
    Plans,
    plans,
)
from dwconv_jax.ops.lowerings.gpu.plan import Plan
from dwconv_jax.ops.lowerings.gpu.platform import Launch, is_bfloat16
from dwconv_jax.ops.lowerings.split_images import split_images

_DEPTHS, _DEEPEST = 16, 128  # channels of a head: a multiple, at most
_ONE_ROW = Neighborhood(kernel_size=1, dilation=1, before=0, clamp=False)


def covers(connectivity: Sliding) -> bool:
    """Whether there are kernels for the connectivity."""
    along = connectivity.along
    return len(along) <= 2 and all(axis.stride == 1 and axis.border != "wrap" for axis in along)


def attend(
    launch: Launch,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    *,
    connectivity: Sliding,
    scale: float,
) -> tuple[jax.Array, jax.Array]:
    """`lowerings.tiles.attend` for what `covers`, differentiable once, in reverse mode.

    Args:
      launch: runs a kernel; see `platform.by_cuda`.
      query: float32 or bfloat16 `[B, *spatial, heads, D]` with D a multiple of 16, at most 128.
      key: `[B, *spatial, kv_heads, D]` of the same dtype.
      value: `[B, *spatial, kv_heads, D]` of the same dtype.
      bias: `[heads, 2 k_1 - 1, ...]`.
      connectivity: over one or two axes.
      scale: of the products.

    Returns:
      `[B, *spatial, heads, D]`, and the log-sum-exp, float32 `[B, *spatial, heads]`.

    Raises:
      UserError: if there is no kernel for the dtypes, or the widths of heads or neighborhoods.
    """
    heads, depth = query.shape[-2:]
    if value.shape[-1] != depth or depth % _DEPTHS or depth > _DEEPEST:
        raise UserError(
            f"lowering='cuda' takes heads of a multiple of {_DEPTHS} channels, at most {_DEEPEST}, "
            f"the same for value as for query, got {depth} and {value.shape[-1]}; use "
            "lowering='auto'"
        )
    repeated = (jnp.repeat(x, heads // x.shape[-2], axis=-2) for x in (key, value))
    arrays = equally_varying(query, *repeated, *([] if bias is None else [bias]))
    maps = [x.reshape(len(x), -1, *x.shape[-3:]) for x in arrays[:3]]  # a sequence is one row
    (batch, height, width, *_), has_bias = maps[0].shape, bias is not None
    rows, columns = [_ONE_ROW, *map(_neighborhood, connectivity.along)][-2:]
    shape = batch, height, width, heads, depth
    case = AttentionCase(shape, rows, columns, scale, is_bfloat16(*maps), has_bias)
    table = [b.astype(jnp.float32).reshape(heads, *case.bias_shape) for b in arrays[3:]]
    out, lse = _attend(launch, case, *maps, table)
    return out.reshape(query.shape), lse.reshape(query.shape[:-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    launch: Launch,
    case: AttentionCase,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: list[jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Attention over maps `[B, H, W, heads, D]`; `bias` has none, or one `[heads, ...]`."""

    def local(query: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
        lse = jax.ShapeDtypeStruct(query.shape[:-1], jnp.float32)
        return _run(launch, _plans(case, query).attention, [_type_of(query), lse], query, *arrays)

    out, lse = _over_images(local, query, key, value, *bias, maps=3)
    return out, lse


def _forward(launch: Launch, case: AttentionCase, *arrays: Any) -> Any:
    out, lse = _attend(launch, case, *arrays)
    return (out, lse), (*arrays, out, lse)


def _backward(
    launch: Launch, case: AttentionCase, saved: Any, cotangents: tuple[jax.Array, jax.Array]
) -> tuple[Any, ...]:
    query, key, value, bias, out, lse = saved
    g, g_lse = cotangents
    # The sum over keys of each weight times its gradient, less what the log-sum-exp adds to it.
    delta = (g.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1) - g_lse

    def local(query: jax.Array, *arrays: jax.Array) -> tuple[jax.Array, ...]:
        like, (batch, _, _, heads, _) = _type_of(query), query.shape
        _, of_queries, of_keys = _plans(case, query)
        shape = batch, of_queries.partials, heads, *case.bias_shape
        parts = [jax.ShapeDtypeStruct(shape, jnp.float32)] * case.bias
        in_query, *in_bias = _run(launch, of_queries, [like, *parts], query, *arrays)
        in_keys = _run(launch, of_keys, [like, like], query, *arrays)
        return in_query, *in_keys, *(parts.sum(1) for parts in in_bias)

    in_query, in_key, in_value, *in_bias = _over_images(
        local, query, key, value, g, lse, delta, *bias, maps=6
    )
    return in_query, in_key, in_value, [of_images.sum(0) for of_images in in_bias]


_attend.defvjp(_forward, _backward)


def _plans(case: AttentionCase, query: jax.Array) -> Plans:
    """The plans for the images of a device."""
    return plans(case._replace(shape=(len(query), *case.shape[1:])))


def _run(
    launch: Launch, plan: Plan, results: list[Any], *arrays: jax.Array
) -> tuple[jax.Array, ...]:
    """What a kernel writes, which varies over the axes of `shard_map` that `arrays` do."""
    return tuple(equally_varying(arrays[0], x)[1] for x in launch(plan, results, *arrays))


def _neighborhood(axis: SlidingAxis) -> Neighborhood:
    before = axis.reach[0] // axis.dilation
    clamp = axis.border == "clamp" and not axis.causal
    return Neighborhood(axis.kernel_size, axis.dilation, before, clamp)


def _type_of(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _over_images(
    call: Callable[..., tuple[jax.Array, ...]], *arrays: jax.Array, maps: int
) -> tuple[jax.Array, ...]:
    """`split_images`, where `vmap` adds to the images."""

    @custom_vmap
    def run(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return split_images(call, *arrays, maps=maps)

    @run.def_vmap
    def run_mapped(size: int, mapped: list[bool], *arrays: jax.Array) -> Any:
        arrays = tuple(a if m else a[None] for a, m in zip(arrays, mapped, strict=True))
        if any(mapped[maps:]):  # each example has a bias of its own
            spread = (jnp.broadcast_to(a, (size, *a.shape[1:])) for a in arrays)
            results = lax.map(lambda example: run(*example), tuple(spread))
        else:
            batch = arrays[0].shape[1]
            images = (merge_batches(a, size, batch) for a in arrays[:maps])
            results = run(*images, *(a[0] for a in arrays[maps:]))
            results = tuple(r.reshape(size, batch, *r.shape[1:]) for r in results)
        return results, (True,) * len(results)

    return run(*arrays)
