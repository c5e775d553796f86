"""What attention adds to its logits: relative position biases and masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import seam_regions
from dwconv_jax.layers.initializers import Initializer
from dwconv_jax.ops.connectivity import Connectivity, Global, Sliding, Window

# Swin's value between regions of a shifted window. Padding must not leak at all.
_SEAM, _PADDING = -100.0, float(np.finfo(np.float32).min)


class RelativePositionBias(nnx.Module):
    """A learned bias for each head and each difference between query and key position.

    The table has a row for each difference: `(2 h - 1) * (2 w - 1)` for windows (or maps) of
    `h x w`, in Swin's order (query minus key), and one for each tap of a sliding kernel.
    """

    def __init__(
        self,
        connectivity: Connectivity,
        num_heads: int,
        map_size: tuple[int, int] | None,
        *,
        init: Initializer,
        rngs: nnx.Rngs,
        param_dtype: Any,
    ):
        if isinstance(connectivity, Sliding):
            rows = connectivity.kernel_size[0] * connectivity.kernel_size[1]
        else:
            span = connectivity.window_size if isinstance(connectivity, Window) else map_size
            if span is None:
                raise UserError("map_size must be (H, W) for the biases of global attention")
            self.span = span
            rows = (2 * self.span[0] - 1) * (2 * self.span[1] - 1)
        self.table = nnx.Param(init(rngs.params(), (rows, num_heads), param_dtype))

    def __call__(self, connectivity: Connectivity, height: int, width: int) -> jax.Array:
        """The bias as float32 `[1, 1, heads, Q, K]`; windows may be smaller than the table's."""
        table = self.table[...].astype(np.float32)
        if isinstance(connectivity, Sliding):
            return table.T[None, None, :, None]
        block = (height, width) if isinstance(connectivity, Global) else connectivity.window_size
        index = relative_index(block, self.span)
        bias = table[index.reshape(-1)].reshape(*index.shape, -1)
        return bias.transpose(2, 0, 1)[None, None]


def relative_index(block: tuple[int, int], span: tuple[int, int]) -> np.ndarray:
    """Rows of the table for each query and key of a block of at most `span`: `[Q, K]`."""
    rows, cols = (axis.reshape(-1) for axis in np.indices(block))
    row_difference = rows[:, None] - rows[None] + span[0] - 1
    col_difference = cols[:, None] - cols[None] + span[1] - 1
    return row_difference * (2 * span[1] - 1) + col_difference


def attention_mask(
    connectivity: Connectivity, height: int, width: int, extent: jax.Array | None = None
) -> jax.Array | None:
    """What to add to the logits so that nobody sees padding or across a seam.

    Args:
      connectivity: which keys a query sees.
      height: of the map.
      width: of the map.
      extent: int `[B, 2]`, the part of each map that counts and was rolled (see `layers.extents`);
        map and extent are then multiples of the window.

    Returns:
      float32 `[B or 1, N, Q, K]` (`[1, N, 1, K]` for sliding kernels), or None where nothing is
      hidden.
    """
    if extent is not None and isinstance(connectivity, Window):
        if not any(connectivity.shift):
            return None
        region = seam_regions(connectivity, (height, width), extent)
        return _hide(region[..., :, None] != region[..., None, :], _SEAM)
    mask = _shared_mask(connectivity, height, width)
    return None if mask is None else mask[None]


def _shared_mask(connectivity: Connectivity, height: int, width: int) -> jax.Array | None:
    match connectivity:
        case Sliding():
            return _hide(connectivity.neighbours(height, width) < 0, _PADDING)
        case Window():
            padding = connectivity.outputs(height, width) < 0
            if not padding.any() and not any(connectivity.shift):
                return None
            region = jnp.asarray(_regions(connectivity, height, width))
            seam = _hide(region[:, :, None] != region[:, None, :], _SEAM)
            return jnp.minimum(seam, _hide(padding[:, None, :], _PADDING))
        case _:
            return None


def seam_mask(connectivity: Window, height: int, width: int) -> np.ndarray:
    """What shifted windows add to the logits across the seam of the roll: float32 `[N, Q, K]`."""
    region = _regions(connectivity, height, width)
    across = region[:, :, None] != region[:, None, :]
    return np.where(across, np.float32(_SEAM), np.float32(0))


def _hide(hidden: np.ndarray | jax.Array, value: float) -> jax.Array:
    return jnp.where(hidden, jnp.float32(value), jnp.float32(0))


def _regions(connectivity: Window, height: int, width: int) -> np.ndarray:
    """Labels of the parts of the map that the roll brought together: int `[N, Q]`."""
    grid, window = connectivity.grid(height, width), connectivity.window_size
    rows, cols = (
        # Behind the seam are the last `shift` places of the rolled map.
        (np.arange(n * w) >= n * w - s).reshape(n, w)
        for n, w, s in zip(grid, window, connectivity.shift, strict=True)
    )
    labels = 2 * rows[:, None, :, None].astype(np.int8) + cols[None, :, None, :]
    return labels.reshape(grid[0] * grid[1], -1)
