"""Attention weights: softmax of query-key products plus a relative position bias."""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.dense import linear
from dwconv_jax.layers.initializers import full
from dwconv_jax.layers.weights.position_bias import POSITION_BIASES
from dwconv_jax.layers.weights.rotary import check_rotary, positions, rotate
from dwconv_jax.layers.weights.source import SourceSpec, Traits
from dwconv_jax.ops.checks import check_choice
from dwconv_jax.ops.connectivity import Connectivity, Size, Window, entries, per_axis
from dwconv_jax.ops.dispatch import logits

# Swin's value across the seam of a shifted window. Padding must not leak at all.
_ACROSS_SEAM, _HIDDEN = -100.0, float(np.finfo(np.float32).min)


class AttentionWeights(nnx.Module):
    """Multi-head attention over the positions that connect (paper section 2; Swin).

    The groups of channels are the heads. Queries see no padding, nothing beyond a zero border,
    nothing after them on a causal axis and, in shifted windows, nothing across the seam of the
    roll. Values are a projection of `x`, as queries and keys are.
    """

    traits = Traits(per_position=True, any_block=True, projection=True)

    def __init__(
        self,
        spec: SourceSpec,
        *,
        position_bias: Literal["table", "mlp", "query"] | None = "table",
        cosine: bool = False,
        rotary: bool = False,
        lepe: int | Size | None = None,
        qkv_bias: bool | Literal["qv"] = True,
        output_projection: bool = True,
        num_kv_heads: int | None = None,
        see_border: bool = False,
        cyclic: bool | tuple[bool, ...] = False,
        pretrained_window: int | Size | None = None,
        query_stride: int = 1,
        rngs: nnx.Rngs,
    ):
        """Creates the projections and the position bias.

        Args:
          spec: the flags of the layer.
          position_bias: a learned "table" of relative positions, Swin V2's "mlp" of log-spaced
            relative positions, products of the "query" with vectors of relative positions
            (HaloNet), or None. With "mlp" or None, blocks may have any size: layers over whole axes
            need no `map_size`.
          cosine: whether logits are cosine similarities in float32 with a learned temperature for
            each head (Swin V2), in place of products over `sqrt(D)`.
          rotary: whether queries and keys are rotated by their position on the map, the channels of
            a head divided evenly over the axes. Across the border "wrap" or the seam of a cyclic
            axis, neighbors are as far apart as the two ends of the map.
          lepe: kernel size of a depth-wise convolution of the values over the whole map, with a
            zero border, that is added to the mixed values (CSWin, RMT); None for none.
          qkv_bias: whether the projection to queries, keys and values has a bias; "qv" for a bias
            of queries and values alone (Swin V2).
          output_projection: whether a linear layer follows.
          num_kv_heads: heads of keys and values, each shared by as many heads of queries; None for
            `groups`.
          see_border: whether queries see what lies beyond a zero border, as keys and values that
            are zero (HaloNet).
          cyclic: whether the two ends of an axis are neighbors, so that shifted windows may see
            across the seam of the roll; a bool or one for each axis. The axis should be a multiple
            of the window.
          pretrained_window: window whose size the "mlp" takes for 1; None for the layer's own.
          query_stride: positions of a block that share their "query" vectors along an axis, for
            layers of whose output only every such position is used.
          rngs: initialization keys.

        Raises:
          UserError: for an illegal value, or one that does not go with the layer's flags.
        """
        check_choice("position_bias", position_bias, tuple(POSITION_BIASES))
        check_choice("qkv_bias", qkv_bias, (True, False, "qv"))
        features, heads = spec.features, spec.groups
        kv_heads = heads if num_kv_heads is None else num_kv_heads
        if kv_heads < 1 or heads % kv_heads:
            raise UserError(f"num_kv_heads={kv_heads} must divide the {heads} heads")
        if rotary:
            check_rotary(features // heads, spec.num_axes)
        if lepe is not None:
            lepe = per_axis("lepe", lepe, 1, spec.num_axes)
        self.traits = dataclasses.replace(
            self.traits,
            projection=output_projection,
            values_kernel_size=lepe,
            scaled_by_block=position_bias == "mlp" and pretrained_window is None,
        )
        self.connectivity, self.seams = spec.connectivity, _seams(spec, cyclic)
        self.num_heads, self.num_kv_heads, self.rotary = heads, kv_heads, rotary
        if see_border and any(getattr(spec.connectivity, "causal", ())):
            raise UserError("see_border=True does not go with causal=True, which hides keys too")
        self.see_border = see_border
        kv_width = kv_heads * (features // heads)
        self.qkv = linear(
            features,
            features + 2 * kv_width,
            use_bias=qkv_bias is True,
            rngs=rngs,
            **spec.dtypes,
        )
        self.q_bias, self.v_bias = (
            nnx.data(nnx.Param(full(n, 0, spec.param_dtype)) if qkv_bias == "qv" else None)
            for n in (features, kv_width)
        )
        build = POSITION_BIASES[position_bias]
        options = _bias_options(position_bias, pretrained_window, query_stride)
        self.position_bias: Any = nnx.data(build and build(spec, rngs=rngs, **options))
        scale = full(heads, math.log(10), spec.param_dtype)
        self.logit_scale = nnx.data(nnx.Param(scale) if cosine else None)

    def __call__(
        self, x: jax.Array, train: bool | None, canvas: Canvas
    ) -> tuple[jax.Array, jax.Array]:
        """Weights `[B, N, Q, K, heads]` and values `[B, *spatial, C]`."""
        size = x.shape[1:-1]
        q, k, v = self._project(x)
        if self.rotary:
            places = canvas.roll(jnp.asarray(positions(size)), self.connectivity)
            q, k = rotate(q, places), rotate(k, places)
        connectivity = canvas.rolled(self.connectivity)
        hidden = canvas.hidden(self.connectivity, size)
        scores = logits(*self._scale(q, k), connectivity).astype(jnp.float32)
        values = v.reshape(x.shape)
        if self.see_border and hidden is not None:
            scores = jnp.where(hidden[:, :, None], 0, scores)
            values, hidden = canvas.clear(values), None
        if self.position_bias is not None:
            scores = scores + self.position_bias(q, connectivity)
        mask = _mask(canvas.across_seam(self.seams, size), hidden)
        weights = jax.nn.softmax(scores if mask is None else scores + mask, axis=-1)
        return jnp.moveaxis(weights.astype(v.dtype), 2, -1), values

    def _project(self, x: jax.Array) -> list[jax.Array]:
        """Queries, keys and values, `[B, *spatial, heads, D]` each."""
        features = x.shape[-1]
        width, sharing = features // self.num_heads, self.num_heads // self.num_kv_heads
        ends = features, features + self.num_kv_heads * width
        q, k, v = jnp.split(self.qkv(x), ends, axis=-1)
        if self.q_bias is not None and self.v_bias is not None:
            q, v = _plus(q, self.q_bias[...]), _plus(v, self.v_bias[...])
        q, k, v = (part.reshape(*x.shape[:-1], -1, width) for part in (q, k, v))
        if sharing > 1:
            k, v = jnp.repeat(k, sharing, axis=-2), jnp.repeat(v, sharing, axis=-2)
        return [q, k, v]

    def _scale(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scales queries and keys so that their products are the logits."""
        if self.logit_scale is None:
            return q * q.shape[-1] ** -0.5, k
        # Swin V2 keeps the temperature at 0.01 or more.
        log_scale = jnp.minimum(self.logit_scale[...].astype(jnp.float32), math.log(100))
        scale = jnp.expand_dims(jnp.exp(log_scale)[:, None], range(q.ndim - 2))
        return _unit(q) * scale, _unit(k)


def check_options(options: Mapping[str, Any]) -> None:
    """UserError for a name that is not an option of `AttentionWeights`."""
    parameters = inspect.signature(AttentionWeights.__init__).parameters
    legal = [name for name in parameters if name not in ("self", "spec", "rngs")]
    if not hasattr(options, "keys") or any(name not in legal for name in options):
        raise UserError(f"attention must be a dict of options {', '.join(legal)}, got {options!r}")


def _seams(spec: SourceSpec, cyclic: bool | tuple[bool, ...]) -> Connectivity:
    """The connectivity whose seams hide keys: without those of cyclic axes."""
    is_bool = (True, False).__contains__
    each = entries("cyclic", cyclic, spec.num_axes, is_bool, "True or False")
    window = spec.connectivity
    if not any(each):
        return window
    if not isinstance(window, Window):
        raise UserError(f"cyclic={cyclic!r} needs connectivity='window', got {window}")
    shift = tuple(0 if c else s for c, s in zip(each, window.shift, strict=True))
    return Window(window.window_size, shift, shrink=window.shrink)


def _bias_options(
    position_bias: str | None, pretrained_window: int | Size | None, query_stride: int
) -> dict[str, Any]:
    """The options of one position bias; UserError for those of another."""
    options: dict[str, Any] = {}
    for kind, name, value, default in (
        ("mlp", "pretrained_window", pretrained_window, None),
        ("query", "query_stride", query_stride, 1),
    ):
        if value == default:
            continue
        if position_bias != kind:
            raise UserError(f"{name}={value!r} needs position_bias={kind!r}, got {position_bias!r}")
        options[name] = value
    return options


def _mask(across: jax.Array | None, hidden: jax.Array | None) -> jax.Array | None:
    """What hides keys, to be added to scores `[B, N, heads, Q, K]`; None if nothing does."""
    mask = None if across is None else _where(across, _ACROSS_SEAM)
    if hidden is not None:
        hides = _where(hidden, _HIDDEN)
        mask = hides if mask is None else jnp.minimum(mask, hides)
    return None if mask is None else mask[:, :, None]


def _plus(x: jax.Array, bias: jax.Array) -> jax.Array:
    """`x[..., C]` plus `bias[C]`."""
    return x + jnp.expand_dims(bias.astype(x.dtype), range(x.ndim - 1))


def _unit(x: jax.Array) -> jax.Array:
    """`x` in float32 over its norm along the last axis; zero stays zero."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def _where(condition: jax.Array, value: float) -> jax.Array:
    return jnp.where(condition, jnp.float32(value), jnp.float32(0))
