"""The operator by its fastest lowering: chosen here, by connectivity, shape and platform."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwconv_jax.errors import UserError
from dwconv_jax.ops.checks import check_choice, check_operands
from dwconv_jax.ops.connectivity import Blocks, Connectivity, Size, Sliding
from dwconv_jax.ops.lowerings import blocks, gather, sliding, taps, tiles
from dwconv_jax.ops.lowerings.gpu import attention as cuda_attention
from dwconv_jax.ops.lowerings.gpu.platform import by_cuda, check_gpu
from dwconv_jax.ops.lowerings.selection import COVERAGE, LOWERINGS, Lowering
from dwconv_jax.ops.lowerings.tpu.platform import check_chip
from dwconv_jax.ops.sharding import by_xla, split_of


class Strategy(NamedTuple):
    """How a kind of connectivity is computed; every function equals the one in `gather`.

    Attributes:
      mix: `(x, weights, connectivity) -> y`, with the shapes of `locally_connected`.
      logits: `(q, k, connectivity)`, `[B, *spatial, heads, D]` each, to `[B, N, heads, Q, K]`.
      partition: `(x, connectivity)`, `[B, *spatial, C]` to the outputs of blocks, `[B, N, Q, C]`.
      merge: its inverse, `(blocks, connectivity, size)`.
      covers: `(lowering, connectivity, dynamic, per_position)` to whether `mix` takes a `lowering`
        other than "auto".
    """

    mix: Callable[..., jax.Array]
    logits: Callable[..., jax.Array]
    partition: Callable[..., jax.Array]
    merge: Callable[..., jax.Array]
    covers: Callable[..., bool] = lambda *_: False


_GATHER = Strategy(gather.mix, gather.logits, gather.partition, gather.merge)
_STRATEGIES: dict[type, Strategy] = {}


def register(kind: type, strategy: Strategy) -> None:
    """Gives a class of connectivities, and its subclasses, lowerings of its own."""
    _STRATEGIES[kind] = strategy


register(Blocks, Strategy(blocks.mix, blocks.logits, blocks.partition, blocks.merge))
register(Sliding, Strategy(sliding.mix, sliding.logits, taps.partition, taps.merge, sliding.covers))


def strategy_of(connectivity: Connectivity) -> Strategy:
    """The lowerings registered for its class; by gathering for one that has none."""
    kinds = type(connectivity).__mro__
    return next((_STRATEGIES[kind] for kind in kinds if kind in _STRATEGIES), _GATHER)


# jit makes every call with the same shapes share one trace, which halves the tracing of a model.
@functools.partial(jax.jit, static_argnames=("connectivity", "lowering"))
def locally_connected(
    x: jax.Array, weights: jax.Array, connectivity: Connectivity, lowering: Lowering = "auto"
) -> jax.Array:
    """The channel-wise locally connected operator (paper section 2)::

        y[b, i, c] = sum over j in N(i) of  w[b, i, j, g(c)] * x[b, j, c]

    Picks a lowering by shape and platform; every one equals `ops.definition.locally_connected`.
    Differentiable in `x` and `weights`.

    Args:
      x: `[B, *spatial, C]`, over one, two or three axes as the connectivity has.
      weights: `[B or 1, N or 1, Q, K, G]`. Axis 0 is 1 for static weights; axis 1 is 1 when all
        blocks share them; channel `c` uses group `c // (C // G)`.
      connectivity: `Sliding`, `Window`, `Grid`, `Global` or your own; it fixes `N`, `Q` and `K`.
      lowering: "auto" picks by shape and platform. "pallas" uses this project's TPU kernels (v5e,
        v5p, v6e and later; other platforms do what "auto" does), which cover `Sliding` over two
        axes with zero borders and stride 1, and are fastest with a multiple of 128 images on each
        chip. "cuda" uses this project's GPU kernels (NVIDIA Ampere and later; other platforms do
        what "auto" does), which cover `Sliding` with stride 1 and without clamped borders, in
        float32 and bfloat16, with weights that positions share. Neither has been timed on hardware
        yet, so "auto" picks neither; `python -m benchmarks.tpu.hardware` and
        `python -m benchmarks.gpu.hardware` compare them.

    Returns:
      `[B, *spatial, C]` in the common dtype of `x` and `weights`.

    Raises:
      ValueError: if the shapes do not fit, or where `lowering` has no kernel for the connectivity,
        the dtype or the chip.
    """
    check_choice("lowering", lowering, LOWERINGS)
    check_operands(x, weights, connectivity)
    dtype = jnp.result_type(x, weights)
    x, weights = x.astype(dtype), weights.astype(dtype)
    mix = functools.partial(strategy_of(connectivity).mix, connectivity=connectivity)
    if lowering != "auto":
        per_image, per_position = weights.shape[0] == x.shape[0], weights.shape[1] != 1
        check_covered(lowering, connectivity, dynamic=per_image, per_position=per_position)
        {"pallas": check_chip, "cuda": check_gpu}[lowering]()
        mix = functools.partial(mix, lowering=lowering)
    return by_xla(mix, x, weights, split=split_of(x))


def check_covered(
    lowering: Lowering, connectivity: Connectivity, *, dynamic: bool, per_position: bool
) -> None:
    """Raises UserError where a lowering other than "auto" has no kernels.

    Args:
      lowering: the lowering.
      connectivity: which positions connect.
      dynamic: whether each image has weights of its own.
      per_position: whether each position has.
    """
    if not strategy_of(connectivity).covers(lowering, connectivity, dynamic, per_position):
        raise UserError(
            f"lowering={lowering!r} has kernels for {COVERAGE[lowering]}, got {connectivity} with "
            f"{'dynamic' if dynamic else 'static'} weights"
            f"{' of each position' if per_position else ''}; use lowering='auto'"
        )


# `models.multiply_adds` finds it, as `locally_connected`, by its name in a traced program.
@functools.partial(jax.jit, static_argnames="connectivity")
def logits(q: jax.Array, k: jax.Array, connectivity: Connectivity) -> jax.Array:
    """Products of each query with the keys that it sees.

    Args:
      q: `[B, *spatial, heads, D]`.
      k: `[B, *spatial, heads, D]`.
      connectivity: which keys a query sees. Products with keys that it does not see
        (`connectivity.hidden`) mean nothing.

    Returns:
      `[B, N, heads, Q, K]`.
    """
    compute = functools.partial(strategy_of(connectivity).logits, connectivity=connectivity)
    batch, *_, heads, _ = split_of(q)
    return by_xla(compute, q, k, split=(batch, None, heads, None, None))


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    connectivity: Sliding,
    *,
    scale: float,
    bias: jax.Array | None,
    lowering: Lowering = "auto",
) -> tuple[jax.Array, jax.Array]:
    """Attention without its weights in memory; see `lowerings.tiles.attend`.

    Raises UserError where a `lowering` other than "auto" has no kernel.
    """
    check_choice("lowering", lowering, LOWERINGS)
    how: dict[str, Any] = dict(connectivity=connectivity, scale=scale)
    compute: Callable[..., Any] = functools.partial(tiles.attend, **how)
    if lowering != "auto":
        if lowering != "cuda" or not cuda_attention.covers(connectivity):
            raise UserError(
                f"lowering={lowering!r} has no kernel for attention over {connectivity}; use "
                "lowering='auto'"
            )
        check_gpu()
        by_kernel = functools.partial(cuda_attention.attend, **how)
        compute = functools.partial(by_cuda, by_kernel, compute)
    batch, *spatial, heads, _ = split_of(query)
    rows = (batch, *spatial, heads)
    tables = () if bias is None else (bias,)
    return by_xla(compute, query, key, value, *tables, split=[(*rows, None), rows])


def partition(x: jax.Array, connectivity: Connectivity) -> jax.Array:
    """`[B, *spatial, C]` to the outputs of each block, `[B, N, Q, C]`, zero in padding."""
    cut = functools.partial(strategy_of(connectivity).partition, connectivity=connectivity)
    batch, *_, channels = split_of(x)
    return by_xla(cut, x, split=(batch, None, None, channels))


def merge(blocks: jax.Array, connectivity: Connectivity, size: Size) -> jax.Array:
    """The inverse of `partition`: `[B, N, Q, C]` to `[B, *size, C]`."""
    place = functools.partial(strategy_of(connectivity).merge, connectivity=connectivity, size=size)
    batch, *_, channels = split_of(blocks)
    return by_xla(place, blocks, split=(batch, *(None for _ in size), channels))
