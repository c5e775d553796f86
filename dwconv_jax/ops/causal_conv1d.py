"""Causal short convolution of sequences, as language models use it."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from dwconv_jax.errors import UserError
from dwconv_jax.ops.checks import check_choice, check_groups
from dwconv_jax.ops.lowerings.short_conv import Inputs, short_conv
from dwconv_jax.ops.sharding import by_xla, split_of


@functools.partial(jax.jit, static_argnames=("activation", "return_state"))
def causal_conv1d(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    activation: Literal["silu"] | None = None,
    segment_ids: jax.Array | None = None,
    state: jax.Array | None = None,
    return_state: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Convolves every channel of a sequence with a short causal kernel::

        y[b, t, c] = activation(sum over j of  kernel[j, c] * x[b, t - K + 1 + j, c]  + bias[c])

    A cross-correlation: the last tap is the current token's. Bias and activation are fused, and the
    backward pass recomputes the convolution instead of storing it. Differentiable in `x`, `kernel`,
    `bias` and `state`, in reverse and forward mode.

    Args:
      x: `[B, L, C]`.
      kernel: `[K, C]`, static; `[B, K, C]`, predicted for each sequence; or `[B, L, K, G]`,
        predicted at each position, where channel `c` uses group `c // (C // G)`.
      bias: `[C]`, added before the activation.
      activation: None or "silu".
      segment_ids: int `[B, L]`, for packed sequences: a run of equal ids is a segment, and a token
        sees only tokens of its own segment.
      state: `[B, K - 1, C]`, the inputs before the first token; zeros by default. With
        `segment_ids`, it belongs to the segment of the first token.
      return_state: also returns the last `K - 1` inputs, the `state` for the tokens that follow.
        With `segment_ids`, inputs of other segments than the last token's are zero in it.

    Returns:
      `[B, L, C]` in the common dtype of `x`, `kernel` and `bias`, from float32 sums at least; with
      `return_state`, the pair of it and the new state, `[B, K - 1, C]` in the dtype of `x`.

    Raises:
      ValueError: if shapes or dtypes do not fit, or for an unknown activation.
    """
    check_choice("activation", activation, (None, "silu"))
    _check_arrays(x, kernel, bias)
    batch, _, channels = x.shape
    past = kernel.shape[-2] - 1
    if state is None:
        state = jnp.zeros((batch, past, channels), x.dtype)
    _check_context(x, segment_ids, state, past)
    state = state.astype(x.dtype)

    dtype = jnp.result_type(x, kernel, x if bias is None else bias)
    bias = jnp.zeros(channels) if bias is None else bias
    inputs = [array.astype(dtype) for array in (x, _with_all_axes(kernel), bias, state)]
    masks = [] if segment_ids is None else [segment_ids]
    convolve = functools.partial(_convolve, silu=activation == "silu")
    y = by_xla(convolve, *inputs, *masks, split=split_of(x))
    if not return_state:
        return y
    batch_split, _, channel_split = split_of(x)
    split = (batch_split, None, channel_split)
    return y, by_xla(_last_inputs, x, state, *masks, split=split)


def _convolve(*arrays: jax.Array, silu: bool) -> jax.Array:
    inputs, masks = Inputs(*arrays[:4]), arrays[4:]
    past = inputs.state.shape[1]
    visible = _count_visible(masks[0], past) if masks else None
    return short_conv(inputs, visible, silu)


def _last_inputs(x: jax.Array, state: jax.Array, *masks: jax.Array) -> jax.Array:
    """Returns the last inputs, as many as `state` holds."""
    length, past = x.shape[1], state.shape[1]
    last = jnp.concatenate([state, x], axis=1)[:, length:]
    for segment_ids in masks:
        visible = _count_visible(segment_ids, past)[:, -1:, None]
        age = jnp.arange(past)[::-1][None, :, None]  # 0 for the last token
        last = jnp.where(age < visible, last, 0)
    return last


def _with_all_axes(kernel: jax.Array) -> jax.Array:
    """The kernel as `[1 or B, 1 or L, K, G]`."""
    return jnp.expand_dims(kernel, {2: (0, 1), 3: (1,), 4: ()}[kernel.ndim])


def _count_visible(segment_ids: jax.Array, past: int) -> jax.Array:
    """Counts the tokens that each token sees, itself included: at most `past + 1`."""
    same = segment_ids[:, 1:] == segment_ids[:, :-1]
    # The state, and all before it, continue the first token's segment.
    continues = jnp.pad(same, ((0, 0), (past + 1, 0)), constant_values=True)
    unbroken = visible = jnp.ones(segment_ids.shape, jnp.int32)
    for age in range(past):
        unbroken = unbroken * continues[:, past - age : past - age + segment_ids.shape[1]]
        visible = visible + unbroken
    return visible


def _check_arrays(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> None:
    if x.ndim != 3 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise UserError(
            f"x must be floating [B, L, C] with no empty axis, got {x.dtype}{[*x.shape]}"
        )
    batch, length, channels = x.shape
    *leading, taps, groups = kernel.shape if kernel.ndim > 1 else (None, 0, 0)
    fits = tuple(leading) in ((), (batch,), (batch, length)) and taps
    if not fits or (groups != channels and len(leading) < 2):
        raise UserError(
            f"kernel must be [K, {channels}], [{batch}, K, {channels}] or [{batch}, {length}, K, G]"
            f" for x {[*x.shape]}, got shape {kernel.shape}"
        )
    check_groups(groups, channels, "the last axis of kernel, G")
    if bias is not None and bias.shape != (channels,):
        raise UserError(f"bias must be [{channels}], got shape {bias.shape}")


def _check_context(
    x: jax.Array, segment_ids: jax.Array | None, state: jax.Array, past: int
) -> None:
    batch, length, channels = x.shape
    if state.shape != (batch, past, channels):
        raise UserError(
            f"state must be [B, K - 1, C], here [{batch}, {past}, {channels}], got shape "
            f"{state.shape}"
        )
    if segment_ids is None:
        return
    if segment_ids.shape != (batch, length) or not jnp.issubdtype(segment_ids.dtype, jnp.integer):
        raise UserError(
            f"segment_ids must be integers [{batch}, {length}], got "
            f"{segment_ids.dtype}{[*segment_ids.shape]}"
        )
