"""The channel-wise, spatially locally connected layer, told apart by three choices."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from dwconv_jax import ops
from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import roll_inside
from dwconv_jax.layers.dense import linear
from dwconv_jax.layers.initializers import conv_init
from dwconv_jax.layers.weights.sources import (
    AttentionWeights,
    CentreWeights,
    PooledWeights,
    StaticWeights,
    WeightShape,
)
from dwconv_jax.ops.checks import check_choice, check_groups, check_map
from dwconv_jax.ops.connectivity import Connectivity, Global, Pair, Sliding, Window, as_pair
from dwconv_jax.ops.lowerings.selection import LOWERINGS, Lowering, check_pallas

ConnectivityName = Literal["sliding", "window", "global"]
Dynamic = Literal["none", "pooled", "centre", "attention"]
_CONNECTIVITIES = ("sliding", "window", "global")
_DYNAMICS = ("none", "pooled", "centre", "attention")


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
    ========================= ===============================================================

    Static and pooled weights come with a bias for each channel, attention with an output
    projection, as in the reference.
    """

    def __init__(
        self,
        features: int,
        *,
        connectivity: ConnectivityName = "sliding",
        kernel_size: int | Pair = 7,
        shift: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int | None = None,
        share_positions: bool | None = None,
        dynamic: Dynamic = "none",
        map_size: int | Pair | None = None,
        reduction: int = 4,
        batch_norm_group_size: int | None = None,
        shrink_windows: bool = True,
        lowering: Lowering = "auto",
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the layer from plain values, so that a config file can hold them.

        Args:
          features: channels `C`.
          connectivity: which positions a position sees: a "sliding" kernel, its "window", or all
            ("global").
          kernel_size: size of the kernel or the window; unused when global.
          shift: cyclic shift of the windows.
          dilation: spacing of the taps of a sliding kernel.
          groups: groups of channels that share weights (attention heads); None for `features`
            (nobody shares), which attention does not accept silently: it means one channel a head.
          share_positions: whether all blocks share the weights (across positions for a sliding
            kernel, across windows for windows). None takes what `dynamic` implies: True for "none"
            and "pooled", False for "centre" and "attention". A global layer has one block, so that
            both values mean the same.
          dynamic: where the weights come from: parameters ("none"), the pooled feature ("pooled"),
            the feature at each position ("centre"), queries and keys ("attention").
          map_size: `(H, W)` of the input. Needed where the number of parameters depends on it:
            global layers, and static or pooled weights that positions do not share. Where it is
            given, inputs of another size are refused.
          reduction: how much narrower the hidden layer that predicts weights is.
          batch_norm_group_size: see `BatchNorm.group_size`.
          shrink_windows: whether attention on a map no larger than a window shrinks the window
            and does not shift it (Swin's classifiers do, its detectors do not).
          lowering: see `ops.locally_connected`.
          dtype: of the computation; None keeps the input's.
          param_dtype: of the parameters.
          rngs: initialisation keys.

        Raises:
          ValueError: for a flag outside its legal values or a combination that means nothing.
        """
        check_choice("connectivity", connectivity, _CONNECTIVITIES)
        check_choice("dynamic", dynamic, _DYNAMICS)
        groups = features if groups is None else groups
        check_groups(groups, features)
        self.features, self.dtype, self.dynamic = features, dtype, dynamic
        self.shrink_windows = shrink_windows and dynamic == "attention"
        self.map_size = None if map_size is None else as_pair("map_size", map_size, 1)
        self.connectivity = make_connectivity(connectivity, kernel_size, shift, dilation)

        shared = _resolve_sharing(share_positions, dynamic, connectivity)
        check_choice("lowering", lowering, LOWERINGS)
        if lowering == "pallas":
            check_pallas(self.connectivity, dynamic, per_position=not shared)
        self.lowering = lowering
        shape = self._weight_shape(shared, groups)
        common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        predicted: dict[str, Any] = dict(
            reduction=reduction, batch_norm_group_size=batch_norm_group_size
        )
        self.source: StaticWeights | PooledWeights | CentreWeights | AttentionWeights
        match dynamic:
            case "none":
                self.source = StaticWeights(shape, **common)
            case "pooled":
                self.source = PooledWeights(features, shape, **predicted, **common)
            case "centre":
                self.source = CentreWeights(features, shape, **predicted, **common)
            case "attention":
                self.source = AttentionWeights(
                    features, groups, self.connectivity, self.map_size, **common
                )
        bias_init = {"none": conv_init(shape.seen), "pooled": nnx.initializers.zeros}.get(dynamic)
        self.bias = (
            nnx.data(None)
            if bias_init is None
            else nnx.Param(bias_init(rngs.params(), (features,), param_dtype))
        )
        self.proj = (
            linear(features, features, **common) if dynamic == "attention" else nnx.data(None)
        )

    def __call__(
        self, x: jax.Array, train: bool = False, extent: jax.Array | None = None
    ) -> jax.Array:
        """Mixes `[B, H, W, C]` over space.

        Args:
          x: `[B, H, W, C]`.
          train: use batch statistics where there are any.
          extent: int `[B, 2]`, height and width of the part of each map that counts, where that is
            not the whole map; `x` must be 0 beyond. For windows, map and extent must be multiples
            of them. The result beyond means nothing.

        Returns:
          `[B, H, W, C]`.

        Raises:
          ValueError: if `x` does not have the layer's channels or map size, or if maps of a global
            layer have extents.
        """
        check_map(x)
        if extent is not None and isinstance(self.connectivity, Global):
            raise ValueError(
                "extent does not go with connectivity='global', which mixes whole maps"
            )
        if x.shape[-1] != self.features or self.map_size not in (None, x.shape[1:3]):
            size = "H, W" if self.map_size is None else "{}, {}".format(*self.map_size)
            raise ValueError(f"x must be [B, {size}, {self.features}], got shape {x.shape}")
        x = x.astype(self.dtype or x.dtype)
        connectivity = self.connectivity_on(*x.shape[1:3])
        if extent is not None and isinstance(connectivity, Window):
            y = self._mix_rolled(x, connectivity, train, extent)
        else:
            weights, values = self.source(x, connectivity, train, extent)
            y = ops.locally_connected(values, weights, connectivity, self.lowering)
        if self.bias is not None:
            y = y + self.bias[...].astype(y.dtype)[None, None, None]
        return y if self.proj is None else self.proj(y)

    def _mix_rolled(
        self, x: jax.Array, window: Window, train: bool, extent: jax.Array
    ) -> jax.Array:
        """Shifted windows where each map rolls within its extent."""
        down, right = window.shift
        x = roll_inside(x, (-down, -right), extent) if down or right else x
        weights, values = self.source(x, window, train, extent)
        y = ops.locally_connected(values, weights, window.unrolled(), self.lowering)
        return roll_inside(y, window.shift, extent) if down or right else y

    def connectivity_on(self, height: int, width: int) -> Connectivity:
        """What the layer uses on a map of that size.

        Swin's rule: attention on a map no larger than a window shrinks it and does not shift.
        """
        side = min(height, width)
        window = self.connectivity
        if not self.shrink_windows or not isinstance(window, Window):
            return window
        if side > max(window.window_size):
            return window
        return Window((min(side, window.window_size[0]), min(side, window.window_size[1])))

    def _weight_shape(self, shared: bool, groups: int) -> WeightShape:
        """`N` or 1, `Q`, `K` and `G`; ValueError where they depend on a map size not given."""
        connectivity = self.connectivity
        whole_map = isinstance(connectivity, Global)
        counted = self.dynamic in ("none", "pooled") and not shared
        if (whole_map or counted) and self.map_size is None:
            cause = (
                "connectivity='global'"
                if whole_map
                else f"dynamic={self.dynamic!r} with share_positions=False"
            )
            raise UserError(
                f"map_size must be (H, W), got None: {cause} has parameters for each place of a map"
            )
        blocks, outputs, seen = connectivity.block_shape(*(self.map_size or (1, 1)))
        return WeightShape(blocks if counted else 1, outputs, seen, groups)


def make_connectivity(
    name: ConnectivityName, kernel_size: int | Pair, shift: int | Pair, dilation: int | Pair
) -> Connectivity:
    """The connectivity that the flags describe; ValueError for flags that it does not have."""
    if name != "window" and as_pair("shift", shift, 0) != (0, 0):
        raise UserError(f"shift={shift!r} needs connectivity='window', got {name!r}")
    if name != "sliding" and as_pair("dilation", dilation, 1) != (1, 1):
        raise UserError(f"dilation={dilation!r} needs connectivity='sliding', got {name!r}")
    match name:
        case "sliding":
            return Sliding(kernel_size, dilation)
        case "window":
            return Window(kernel_size, shift)
        case "global":
            return Global()


def _resolve_sharing(share: bool | None, dynamic: Dynamic, connectivity: ConnectivityName) -> bool:
    check_choice("share_positions", share, (True, False, None))
    per_position = dynamic in ("centre", "attention")
    if share and per_position and connectivity != "global":
        raise UserError(
            f"share_positions=True does not go with dynamic={dynamic!r}, whose weights differ at "
            "every position; legal is False (or None)"
        )
    return not per_position if share is None else share
