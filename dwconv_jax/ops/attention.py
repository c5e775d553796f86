"""Neighborhood attention: every query attends to the keys around it (Hassani et al., 2023).

The semantics are NATTEN's, on every platform: strides, dilation, causal axes, more keys for every
query, log-sum-exp. Beyond it: position biases, masks, cyclic maps, and the weights themselves.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwconv_jax.errors import UserError
from dwconv_jax.ops import dispatch
from dwconv_jax.ops.checks import check_attention
from dwconv_jax.ops.connectivity import Border, Size, Sliding
from dwconv_jax.ops.lowerings.selection import Lowering


@functools.partial(
    jax.jit,
    static_argnames=(
        "kernel_size", "dilation", "stride", "is_causal", "border", "scale", "return_lse",
        "lowering",
    ),
)  # fmt: skip
def neighborhood_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    kernel_size: int | Size,
    *,
    dilation: int | Size = 1,
    stride: int | Size = 1,
    is_causal: bool | tuple[bool, ...] = False,
    border: Border | tuple[Border, ...] = "clamp",
    scale: float | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    additional_keys: jax.Array | None = None,
    additional_values: jax.Array | None = None,
    return_lse: bool = False,
    lowering: Lowering = "auto",
) -> Any:
    """Attention of every query to the keys of its neighborhood, over one to three axes.

    Args:
      query: `[B, *spatial, heads, D]`, or one query for each step of the stride,
        `[B, *ceil(spatial / stride), heads, D]`, which stands where the leader of its block does
        (attention that downsamples; without dilation).
      key: `[B, *spatial, kv_heads, D]`; `kv_heads` divides `heads`.
      value: `[B, *spatial, kv_heads, Dv]`.
      kernel_size: keys along each axis, an int or a tuple, as the following.
      dilation: positions between the keys.
      stride: queries that share the neighborhood of their leader.
      is_causal: whether queries see only keys up to themselves.
      border: "clamp" keeps neighborhoods inside the map, as NATTEN does; "zero" cuts them off where
        it ends; "wrap" is for cyclic axes. See `Sliding`.
      scale: of the products; None for `D ** -0.5`.
      bias: added to the products, `[heads, 2 * kernel_size - 1, ...]` with one such axis for each
        of the map, at key minus query in steps of the dilation, plus `kernel_size - 1`.
      mask: which keys each query sees (bool), or what is added to its products (floating);
        broadcasts to `[B, N, heads, Q, K]`, see `Sliding.block_shape`.
      additional_keys: `[B, M, kv_heads, D]`, which every query sees.
      additional_values: `[B, M, kv_heads, Dv]`.
      return_lse: whether to return the log-sum-exp of the products too.
      lowering: "auto" leaves it to XLA. "cuda" uses this project's GPU kernels (NVIDIA Ampere and
        later; other platforms do what "auto" does), which keep the weights out of memory, forward
        and backward. They cover one or two axes with stride 1 and without cyclic borders or a mask,
        in float32 and bfloat16, `D` equal to `Dv` and a multiple of 16 up to 128, and first
        derivatives in reverse mode. They have not been timed on hardware yet:
        `python -m benchmarks.gpu.hardware` does.

    Returns:
      The shape of `query` with `Dv` channels, in its dtype, zero for queries that see no key. With
      `return_lse`, also the float32 `[B, *spatial, heads]`.

    Raises:
      ValueError: if shapes do not fit, an argument is illegal, or `lowering` has no kernel.
    """
    if not 4 <= query.ndim <= 6:
        raise UserError(f"query must be [B, *spatial, heads, D], got shape {[*query.shape]}")
    if not isinstance(kernel_size, tuple):
        kernel_size = (kernel_size,) * (query.ndim - 3)
    connectivity = Sliding(kernel_size, dilation, stride=stride, border=border, causal=is_causal)
    size = key.shape[1:-2]
    leaders = None if query.shape[1:-2] == size else _leaders(query.shape[1:-2], size, connectivity)
    if leaders is not None:
        if mask is not None:
            raise UserError("mask needs a query for each position, got a query for each block")
        for axis, step in enumerate(connectivity.stride, 1):
            query = jnp.take(query, np.arange(size[axis - 1]) // step, axis)
    check_attention(query, key, value, additional_keys, additional_values)
    connectivity.check(*size)
    out, lse = attend(
        query, key, value, connectivity, scale=scale, bias=bias, mask=mask, lowering=lowering
    )
    if additional_keys is not None and additional_values is not None:
        more = _attend_to_all(query, additional_keys, additional_values, scale)
        out, lse = merge((out, lse), more)
    if leaders is not None:
        out, lse = (a[(slice(None), *np.ix_(*leaders))] for a in (out, lse))
    return (out, lse) if return_lse else out


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    connectivity: Sliding,
    *,
    scale: float | None = None,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    lowering: Lowering = "auto",
) -> tuple[jax.Array, jax.Array]:
    """`neighborhood_attention` over a connectivity: the output, and the log-sum-exp."""
    if mask is None:
        _check_bias(bias, query.shape[-2], connectivity)
        how: dict[str, Any] = dict(scale=_scale(query, scale), bias=bias, lowering=lowering)
        return dispatch.attend(query, key, value, connectivity, **how)
    if lowering != "auto":
        raise UserError(f"mask needs lowering='auto', got {lowering!r}")
    scores = logits(query, key, connectivity, scale=scale, bias=bias)
    weights, lse = softmax(_masked(scores, mask))
    lse = dispatch.merge(lse.swapaxes(2, 3), connectivity, query.shape[1:-2])
    return mix(weights, value, connectivity).astype(query.dtype), lse


def merge(
    one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Joins the attention of the same queries to two sets of keys under one softmax.

    Args:
      one: output `[..., heads, Dv]` and float32 log-sum-exp `[..., heads]`.
      other: those of the other keys.

    Returns:
      The output and the log-sum-exp of both.
    """
    lse = jnp.logaddexp(one[1], other[1])
    some = jnp.where(jnp.isneginf(lse), 0, lse)

    def share(out: jax.Array, own: jax.Array) -> jax.Array:
        return out.astype(jnp.float32) * jnp.exp(own - some)[..., None]

    return (share(*one) + share(*other)).astype(one[0].dtype), lse


def _attend_to_all(
    query: jax.Array, keys: jax.Array, values: jax.Array, scale: float | None
) -> tuple[jax.Array, jax.Array]:
    """Every query `[B, *spatial, heads, D]` attends to all keys `[B, M, kv_heads, D]`."""
    keys, values = (_for_each_head(a, query.shape[-2]) for a in (keys, values))
    products = jnp.einsum("b...hd,bmhd->b...hm", *_wide(query * _scale(query, scale), keys))
    weights, lse = softmax(products)
    return jnp.einsum("b...hm,bmhd->b...hd", weights.astype(values.dtype), values), lse


def logits(
    query: jax.Array,
    key: jax.Array,
    connectivity: Sliding,
    *,
    scale: float | None = None,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Scaled products of every query with the keys that it sees, plus the position bias.

    Args:
      query: `[B, *spatial, heads, D]`.
      key: `[B, *spatial, kv_heads, D]`.
      connectivity: which keys a query sees.
      scale: of the products; None for `D ** -0.5`.
      bias: see `neighborhood_attention`.

    Returns:
      float32 `[B, N, heads, Q, K]`, `-inf` for keys that the query does not see.
    """
    size = query.shape[1:-2]
    query, key = _wide(query, _for_each_head(key, query.shape[-2]))
    scores = dispatch.logits(query * _scale(query, scale), key, connectivity)
    if bias is not None:
        scores = scores + _relative_bias(bias, query.shape[-2], connectivity, size)
    hidden = connectivity.hidden(*size)
    return scores if hidden is None else jnp.where(hidden[None, :, None], -jnp.inf, scores)


def softmax(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The softmax over the last axis, zero where no key is seen, and the log-sum-exp."""
    top = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0)
    terms = jnp.exp(scores - top)
    total = terms.sum(-1, keepdims=True)
    some = jnp.where(total > 0, total, 1)
    lse = jnp.where(total > 0, jnp.log(some) + top, -jnp.inf)
    return terms / some, lse[..., 0]


def mix(weights: jax.Array, value: jax.Array, connectivity: Sliding) -> jax.Array:
    """Sums the values that each query sees.

    Args:
      weights: `[B, N, heads, Q, K]`.
      value: `[B, *spatial, kv_heads, Dv]`.
      connectivity: which keys a query sees.

    Returns:
      `[B, *spatial, heads, Dv]` in the dtype of `value`.
    """
    value = _for_each_head(value, weights.shape[2])
    flat = value.reshape(*value.shape[:-2], -1)
    weights = jnp.moveaxis(weights, 2, -1).astype(value.dtype)
    return dispatch.locally_connected(flat, weights, connectivity).reshape(value.shape)


def _relative_bias(bias: jax.Array, heads: int, connectivity: Sliding, size: Size) -> jax.Array:
    """Biases of query and key, float32 `[1, N or 1, heads, Q, K]`."""
    _check_bias(bias, heads, connectivity)
    for i, axis in enumerate(connectivity.along, start=1):
        if axis.at_fixed_offsets:  # only these differences occur, in the order of the taps
            first = axis.kernel_size - 1 - axis.reach[0] // axis.dilation
            bias = jax.lax.slice_in_dim(bias, first, first + axis.kernel_size, axis=i)
    index = connectivity.relative_positions(*size)
    return jnp.moveaxis(bias.reshape(heads, -1).astype(jnp.float32)[:, index], 0, 1)[None]


def _check_bias(bias: jax.Array | None, heads: int, connectivity: Sliding) -> None:
    wanted = (heads, *(2 * k - 1 for k in connectivity.kernel_size))
    if bias is not None and bias.shape != wanted:
        raise UserError(f"bias must be {[*wanted]} for {connectivity}, got {[*bias.shape]}")


def _masked(scores: jax.Array, mask: jax.Array) -> jax.Array:
    fits = mask.ndim == 5 and all(
        n in (1, wanted) for n, wanted in zip(mask.shape, scores.shape, strict=True)
    )
    if not fits:
        raise UserError(
            f"mask must broadcast to [B, N, heads, Q, K] = {[*scores.shape]}, got {[*mask.shape]}"
        )
    if mask.dtype == jnp.bool_:
        return jnp.where(mask, scores, -jnp.inf)
    return scores + mask.astype(scores.dtype)


def _scale(query: jax.Array, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


def _for_each_head(array: jax.Array, heads: int) -> jax.Array:
    """Keys or values `[..., kv_heads, D]` for each head of the queries that share them."""
    return jnp.repeat(array, heads // array.shape[-2], axis=-2)


def _wide(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Float32 at least: products of bfloat16 are summed, and softened, in float32."""
    return tuple(a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in arrays)


def _leaders(coarse: Size, size: Size, connectivity: Sliding) -> list[np.ndarray] | None:
    """Where the leaders of blocks stand on each axis; None if queries are not one a block."""
    steps = connectivity.stride
    if coarse != tuple(-(-n // s) for n, s in zip(size, steps, strict=False)):
        return None
    if any(d > 1 for d in connectivity.dilation):
        raise UserError(
            f"a query for each step of the stride needs dilation=1, got {connectivity.dilation}"
        )
    return [
        np.minimum(np.arange(0, n, s) + (s - 1 if causal else s // 2), n - 1)
        for n, s, causal in zip(size, steps, connectivity.causal, strict=True)
    ]
