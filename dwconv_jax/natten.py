"""NATTEN's names and signatures, over `ops.neighborhood_attention`: a port is an import.

    from dwconv_jax.natten import NeighborhoodAttention2D, na2d

The functions and modules are those of NATTEN 0.21, with `lowering` in place of the arguments that
tune CUDA kernels. The modules also take the `rel_pos_bias` and `attn_drop` of releases up to 0.17.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax.errors import UserError
from dwconv_jax.layers.dense import pointwise
from dwconv_jax.models.torch_layout import Layout, linear, raw
from dwconv_jax.ops import attention
from dwconv_jax.ops.checks import check_groups, check_map
from dwconv_jax.ops.connectivity import Size, Sliding
from dwconv_jax.ops.lowerings.selection import Lowering

Causal = bool | tuple[bool, ...]


def _over(num_axes: int, shape: str) -> Callable[..., Any]:
    """NATTEN's function for maps of that many axes."""

    def attend(
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        kernel_size: int | Size,
        stride: int | Size = 1,
        dilation: int | Size = 1,
        is_causal: Causal = False,
        scale: float | None = None,
        additional_keys: jax.Array | None = None,
        additional_values: jax.Array | None = None,
        return_lse: bool = False,
        *,
        lowering: Lowering = "auto",
    ) -> Any:
        if query.ndim != num_axes + 3:
            raise UserError(
                f"query of na{num_axes}d must have {num_axes + 3} axes, [B, *spatial, heads, D], "
                f"got shape {[*query.shape]}"
            )
        return attention.neighborhood_attention(
            query,
            key,
            value,
            kernel_size,
            stride=stride,
            dilation=dilation,
            is_causal=is_causal,
            scale=scale,
            additional_keys=additional_keys,
            additional_values=additional_values,
            return_lse=return_lse,
            lowering=lowering,
        )

    attend.__name__ = attend.__qualname__ = f"na{num_axes}d"
    attend.__doc__ = f"`ops.neighborhood_attention` of `{shape}`."
    return attend


na1d = _over(1, "[B, L, heads, D]")
na2d = _over(2, "[B, H, W, heads, D]")
na3d = _over(3, "[B, D, H, W, heads, D]")


class _NeighborhoodAttention(nnx.Module):
    """Projections to queries, keys and values, neighborhood attention, and a projection.

    Attributes:
      qkv: linear, `embed_dim` to three times that.
      rpb: position biases `[num_heads, 2 * kernel_size - 1, ...]`, or None.
      proj: linear.
    """

    num_axes: int
    torch_layouts = ()

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        kernel_size: int | Size,
        stride: int | Size = 1,
        dilation: int | Size = 1,
        is_causal: Causal = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        proj_drop: float = 0.0,
        *,
        rel_pos_bias: bool = False,
        attn_drop: float = 0.0,
        lowering: Lowering = "auto",
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the module, initialized as PyTorch's.

        Args:
          embed_dim: channels `C`.
          num_heads: divides `embed_dim`.
          kernel_size: keys along each axis.
          stride: queries that share the neighborhood of their leader.
          dilation: positions between the keys.
          is_causal: whether queries see only keys up to themselves.
          qkv_bias: whether queries, keys and values have a bias.
          qk_scale: of the products; None for `head_dim ** -0.5`.
          proj_drop: dropout rate behind the projection.
          rel_pos_bias: whether to learn a bias for each relative position of key and query.
          attn_drop: dropout rate of the attention weights.
          lowering: see `ops.neighborhood_attention`; "auto" for dropout of the weights.
          dtype: of the computation; None keeps the input's.
          param_dtype: of the parameters.
          rngs: initialization keys, and dropout's.

        Raises:
          UserError: for an illegal argument.
        """
        check_groups(num_heads, embed_dim, "num_heads")
        if not isinstance(kernel_size, (tuple, list)):
            kernel_size = (kernel_size,) * self.num_axes
        self.connectivity = Sliding(
            kernel_size, dilation, stride=stride, border="clamp", causal=is_causal
        )
        if self.connectivity.num_axes != self.num_axes:
            raise UserError(f"kernel_size must have {self.num_axes} entries, got {kernel_size}")
        if attn_drop and lowering != "auto":
            raise UserError(f"attn_drop={attn_drop} needs lowering='auto', got {lowering!r}")
        self.embed_dim, self.num_heads, self.dtype = embed_dim, num_heads, dtype
        self.scale, self.lowering = qk_scale, lowering
        dtypes: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype)
        self.qkv = pointwise(embed_dim, 3 * embed_dim, use_bias=qkv_bias, rngs=rngs, **dtypes)
        self.rpb = nnx.data(None)
        if rel_pos_bias:
            init = nnx.initializers.truncated_normal(0.02)
            shape = (num_heads, *(2 * k - 1 for k in kernel_size))
            self.rpb = nnx.Param(init(rngs.params(), shape, param_dtype))
        self.attn_drop = nnx.Dropout(attn_drop, deterministic=True, rngs=rngs)
        self.proj = pointwise(embed_dim, embed_dim, rngs=rngs, **dtypes)
        self.proj_drop = nnx.Dropout(proj_drop, deterministic=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, *spatial, embed_dim]` to the same; dropout follows `train()` and `eval()`.

        Raises:
          ValueError: if `x` has another shape, or is smaller than the neighborhood.
        """
        check_map(x, num_axes=self.num_axes)
        if x.shape[-1] != self.embed_dim:
            raise UserError(f"x must have {self.embed_dim} channels, got shape {[*x.shape]}")
        self.connectivity.check(*x.shape[1:-1])
        qkv = self.qkv(x.astype(self.dtype or x.dtype))
        qkv = qkv.reshape(*x.shape[:-1], 3, self.num_heads, -1)
        q, k, v = (qkv[..., i, :, :] for i in range(3))
        bias = None if self.rpb is None else self.rpb[...]
        if self.attn_drop.rate:
            scores = attention.logits(q, k, self.connectivity, scale=self.scale, bias=bias)
            weights, _ = attention.softmax(scores)
            y = attention.mix(self.attn_drop(weights), v, self.connectivity)
        else:
            how: dict[str, Any] = dict(scale=self.scale, bias=bias, lowering=self.lowering)
            y, _ = attention.attend(q, k, v, self.connectivity, **how)
        return self.proj_drop(self.proj(y.reshape(x.shape)))

    def torch_layout(self, image_size: int | None = None, layout: str | None = None) -> Layout:
        """The entries of NATTEN's module, for `convert.load_torch` and `convert.to_torch`."""
        del image_size, layout  # parameters do not depend on a size, and have one layout
        yield from linear(self.qkv, "qkv")
        if self.rpb is not None:
            yield raw(self.rpb, "rpb")
        yield from linear(self.proj, "proj")


class NeighborhoodAttention1D(_NeighborhoodAttention):
    """Neighborhood attention of sequences, `[B, L, embed_dim]`."""

    num_axes = 1


class NeighborhoodAttention2D(_NeighborhoodAttention):
    """Neighborhood attention of maps, `[B, H, W, embed_dim]`."""

    num_axes = 2


class NeighborhoodAttention3D(_NeighborhoodAttention):
    """Neighborhood attention of volumes or video, `[B, D, H, W, embed_dim]`."""

    num_axes = 3
