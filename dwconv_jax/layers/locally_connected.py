"""The channel-wise, spatially locally connected layer, told apart by three choices."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax import ops
from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import WHOLE, Canvas
from dwconv_jax.layers.dense import linear
from dwconv_jax.layers.flags import make_connectivity
from dwconv_jax.layers.folding import FoldedNorm, fold_after
from dwconv_jax.layers.norms import BatchNorm
from dwconv_jax.layers.weights import WEIGHT_SOURCES, BuildSource, SourceSpec, Traits
from dwconv_jax.layers.weights.attention import check_options
from dwconv_jax.ops.checks import check_choice, check_groups, check_map
from dwconv_jax.ops.connectivity import Border, Connectivity, Size, per_axis
from dwconv_jax.ops.dispatch import check_covered
from dwconv_jax.ops.lowerings.selection import LOWERINGS, Lowering


class LocallyConnected(nnx.Module):
    """Local attention, depth-wise convolution and all between, as one layer (paper section 3).

    ========================= ===============================================================
    known as                  flags
    ========================= ===============================================================
    depth-wise convolution    `connectivity="sliding", dynamic="none"`
    dynamic (homogeneous)     `connectivity="sliding", dynamic="pooled"`
    i-dynamic (inhomogeneous) `connectivity="sliding", dynamic="centre", groups=...`
    local attention (Swin)    `connectivity="window", dynamic="attention", groups=num_heads`
    local MLP                 `connectivity="window", dynamic="none", groups=...`
    spatial MLP (Mixer)       `connectivity="global", dynamic="none", groups=1, map_size=...`
    global attention (ViT)    `connectivity="global", dynamic="attention", map_size=...`
    neighborhood attention    `connectivity="sliding", border="clamp", dynamic="attention"`
    blocked attention (Halo)  `kernel_size=b + 2 * h, stride=b, dynamic="attention"`
    grid attention (MaxViT)   `connectivity="grid", dynamic="attention"`
    stripes (CSWin)           `connectivity="window", kernel_size=(None, 7)`
    causal short convolution  `kernel_size=(4,), causal=True`
    video windows             `connectivity="window", kernel_size=(2, 7, 7)`
    ========================= ===============================================================

    Static and pooled weights come with a bias for each channel, attention with an output
    projection, as in the reference.
    """

    def __init__(
        self,
        features: int,
        *,
        connectivity: str | Connectivity = "sliding",
        kernel_size: int | tuple[int | None, ...] = 7,
        shift: int | Size = 0,
        dilation: int | Size = 1,
        stride: int | Size = 1,
        border: Border | tuple[Border, ...] = "zero",
        causal: bool | tuple[bool, ...] = False,
        groups: int | None = None,
        share_positions: bool | None = None,
        dynamic: str | BuildSource = "none",
        attention: Mapping[str, Any] | None = None,
        map_size: int | Size | None = None,
        reduction: int = 4,
        batch_norm_group_size: int | None = None,
        shrink_windows: bool = True,
        lowering: Lowering = "auto",
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the layer. All flags but objects of your own are plain values, for config files.

        Args:
          features: channels `C`.
          connectivity: which positions a position sees: a "sliding" kernel, its "window", a "grid"
            over the map, the whole map ("global"), or an `ops.Connectivity`, which carries its own
            sizes.
          kernel_size: size of the kernel, the window or the grid; unused by "global" and by
            objects. A tuple has one entry for each axis of the map, one to three.
          shift: cyclic shift of the windows.
          dilation: spacing of the taps of a sliding kernel.
          stride: how many positions share the sliding kernel of their leader.
          border: what a sliding kernel meets beyond the map: "zero", "clamp" or "wrap".
          causal: whether a sliding kernel sees only a position and those before it.
          groups: groups of channels that share weights (attention heads); None for `features`
            groups of one channel.
          share_positions: whether all blocks share the weights (across positions for a sliding
            kernel, across windows for windows). None takes what `dynamic` implies: True for "none"
            and "pooled", False for "centre" and "attention".
          dynamic: where the weights come from: parameters ("none"), the pooled feature ("pooled"),
            the feature at each position ("centre"), queries and keys ("attention"), or a callable
            `build(spec, rngs=rngs)` that returns a `WeightSource`, given a `SourceSpec`.
          attention: options of `AttentionWeights` by name, for `dynamic="attention"`.
          map_size: of the input, an int for each axis. Needed where the number of parameters
            depends on it: "global", and static or pooled weights that positions do not share.
            Inputs of another size are then refused.
          reduction: how much narrower the hidden layer that predicts weights is.
          batch_norm_group_size: see `BatchNorm.group_size`.
          shrink_windows: whether attention on a map no larger than a window shrinks the window
            and does not shift it (Swin's classifiers do, its detectors do not).
          lowering: see `ops.locally_connected`.
          dtype: of the computation; None keeps the input's.
          param_dtype: of the parameters.
          rngs: initialization keys.

        Raises:
          UserError: for a flag outside its legal values or a combination that means nothing.
        """
        build = _find_source(dynamic, attention)
        check_choice("lowering", lowering, LOWERINGS)
        groups = features if groups is None else groups
        check_groups(groups, features)
        if reduction < 1:
            raise UserError(f"reduction must be at least 1, got {reduction}")
        self.features, self.dtype, self.lowering = features, dtype, lowering
        self.dynamic = dynamic if isinstance(dynamic, str) else _name(dynamic)
        self.connectivity = make_connectivity(
            connectivity,
            kernel_size=kernel_size,
            shift=shift,
            dilation=dilation,
            stride=stride,
            border=border,
            causal=causal,
            shrink=shrink_windows and _traits(build).any_block,
        )
        self.map_size = None if map_size is None else _map_size(map_size, self.connectivity)
        _check_sharing(share_positions, self.dynamic, _traits(build), self.connectivity)
        spec = SourceSpec(
            features=features,
            groups=groups,
            connectivity=self.connectivity,
            share_positions=share_positions,
            map_size=self.map_size,
            reduction=reduction,
            batch_norm_group_size=batch_norm_group_size,
            dtype=dtype,
            param_dtype=param_dtype,
            dynamic=self.dynamic,
        )
        self.source: Any = build(spec, rngs=rngs)
        traits = self.traits
        if lowering != "auto":
            per_position = traits.per_position or share_positions is False
            check_covered(
                lowering, self.connectivity, dynamic=traits.dynamic, per_position=per_position
            )
        self.bias = nnx.data(None)
        if traits.bias_init is not None:
            init = traits.bias_init(spec.taps)
            self.bias = nnx.Param(init(rngs.params(), (features,), param_dtype))
        self.proj = nnx.data(None)
        if traits.projection:
            self.proj = linear(features, features, rngs=rngs, **spec.dtypes)
        self.lepe = nnx.data(None)
        if traits.values_kernel_size is not None:
            self.lepe = LocallyConnected(
                features,
                kernel_size=traits.values_kernel_size,
                lowering=lowering,
                rngs=rngs,
                **spec.dtypes,
            )

    def __call__(
        self, x: jax.Array, train: bool | None = None, canvas: Canvas = WHOLE
    ) -> jax.Array:
        """Mixes `[B, *spatial, C]` over space.

        Args:
          x: `[B, *spatial, C]`, with as many axes as the connectivity.
          train: whether to use batch statistics, if there are any; None follows `model.train()` and
            `model.eval()`.
          canvas: which part of each map counts, for pictures of several sizes in one batch. For
            windows and grids, maps and parts must be multiples of them. The result beyond means
            nothing.

        Returns:
          `[B, *spatial, C]`.

        Raises:
          ValueError: if `x` does not have the layer's channels or map size.
        """
        self._check(x, canvas)
        x = canvas.roll(canvas.clear(x.astype(self.dtype or x.dtype)), self.connectivity)
        weights, values = self.source(x, train, canvas)
        connectivity = canvas.rolled(self.connectivity)
        y = ops.locally_connected(values, weights, connectivity, self.lowering)
        y = canvas.unroll(y, self.connectivity)
        if self.lepe is not None:
            y = y + self.lepe(canvas.unroll(values, self.connectivity), train, canvas)
        if self.bias is not None:
            y = y + jnp.expand_dims(self.bias[...].astype(y.dtype), range(y.ndim - 1))
        return y if self.proj is None else self.proj(y)

    @property
    def traits(self) -> Traits:
        """What the layer knows of its weight source."""
        return _traits(self.source)

    def fold_after(self, norm: BatchNorm) -> BatchNorm | FoldedNorm:
        """Makes a batch norm behind the layer part of it, or returns it where that cannot be."""
        if self.proj is not None:
            return fold_after(self.proj, norm)
        scale, offset = norm.running_affine()
        scale_channels = getattr(self.source, "scale_channels", None)
        if scale_channels is None or not scale_channels(scale):
            return norm
        if self.bias is None:
            self.bias = nnx.Param(offset)
        else:
            self.bias[...] = self.bias[...] * scale + offset
        return FoldedNorm()

    def _check(self, x: jax.Array, canvas: Canvas) -> None:
        num_axes = self.connectivity.num_axes
        check_map(x, num_axes=num_axes if self.map_size is None else len(self.map_size))
        whole_axes = self.traits.scaled_by_block and not self.connectivity.fixed_blocks
        canvas.check(self.connectivity, whole_axes or self.map_size is not None)
        if x.shape[-1] != self.features or self.map_size not in (None, x.shape[1:-1]):
            axes = {1: "L", 2: "H, W", 3: "D, H, W"}[x.ndim - 2]
            size = axes if self.map_size is None else ", ".join(map(str, self.map_size))
            raise ValueError(f"x must be [B, {size}, {self.features}], got shape {x.shape}")


def needs_map_size(
    *,
    connectivity: str | Connectivity = "sliding",
    kernel_size: Any = 7,
    dynamic: str | BuildSource = "none",
    share_positions: bool | None = None,
    attention: Mapping[str, Any] | None = None,
    **_: Any,
) -> bool:
    """Whether a layer with these flags has parameters for each place of a map."""
    build = _find_source(dynamic, attention)
    unshared = share_positions is False and not _traits(build).per_position
    kind = make_connectivity(connectivity, kernel_size=kernel_size, shrink=False)
    has_table = (attention or {}).get("position_bias", "table") in ("table", "query")
    return unshared or (has_table and not kind.fixed_blocks)


def _map_size(given: int | Size, connectivity: Connectivity) -> Size:
    axes = len(given) if isinstance(given, (tuple, list)) else 2
    return per_axis("map_size", given, 1, connectivity.num_axes or axes)


def _check_sharing(
    share_positions: bool | None, dynamic: str, traits: Traits, connectivity: Connectivity
) -> None:
    check_choice("share_positions", share_positions, (True, False, None))
    if share_positions and traits.per_position and not connectivity.single_block:
        raise UserError(
            f"share_positions=True does not go with dynamic={dynamic!r}, whose weights differ at "
            "every position; legal is False (or None)"
        )


def _find_source(dynamic: str | BuildSource, attention: Mapping[str, Any] | None) -> BuildSource:
    if attention is not None and dynamic != "attention":
        raise UserError(f"attention={attention!r} needs dynamic='attention', got {dynamic!r}")
    if callable(dynamic):
        return dynamic
    check_choice("dynamic", dynamic, tuple(WEIGHT_SOURCES))
    if not attention:
        return WEIGHT_SOURCES[dynamic]
    check_options(attention)
    return functools.partial(WEIGHT_SOURCES[dynamic], **attention)


def _traits(source: Any) -> Traits:
    """Those of a weight source, or of what builds it."""
    return getattr(_unwrapped(source), "traits", Traits())


def _name(build: BuildSource) -> str:
    return getattr(_unwrapped(build), "__name__", type(build).__name__)


def _unwrapped(build: Any) -> Any:
    return build.func if isinstance(build, functools.partial) else build
