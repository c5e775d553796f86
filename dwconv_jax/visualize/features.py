"""Figures of what the stages of a backbone compute, and how far they look."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dwconv_jax.models import Backbone
from dwconv_jax.visualize.panels import grid, show_picture

# Smaller shares of the largest gradient are drawn as nothing.
_FAINTEST = 1e-4


def feature_maps(
    model: Backbone, image: jax.Array, *, channels: int = 8, picture: np.ndarray | None = None
) -> Figure:
    """Draws the maps of every stage for an image: the channels that vary most over it.

    Args:
      model: a backbone or classifier, with `features(images)`.
      image: `[H, W, C]`, as the model takes it.
      channels: how many of each stage to draw.
      picture: uint8 `[H, W, 3]`, drawn in place of `image`.
    """
    graph, state = nnx.split(model)
    features = jax.jit(lambda state, x: nnx.merge(graph, state).features(x))
    maps = [np.asarray(m[0], np.float32) for m in features(state, image[None])]
    figure, axes = grid(len(maps), channels + 1, width=1.2, height=1.4)
    for stage, (row, values) in enumerate(zip(axes, maps, strict=True), start=1):
        height, width, count = values.shape
        show_picture(row[0], np.asarray(image) if picture is None else picture)
        row[0].set_title(f"stage {stage}\n{height} x {width} x {count}", size=8)
        chosen = np.sort(np.argsort(-values.std((0, 1)), stable=True)[:channels])
        for panel, channel in zip(row[1:], chosen, strict=False):
            panel.imshow(values[..., channel], cmap="viridis")
            panel.set_title(f"channel {channel}", size=8)
    figure.suptitle("Feature maps: the channels of each stage that vary most", size=11)
    return figure


def effective_receptive_field(model: Backbone, images: jax.Array) -> Figure:
    """Draws how much each pixel matters to the center of every stage's map.

    The mean over images and colors of the absolute gradient of the center's feature, summed over
    channels (Luo et al., "Understanding the effective receptive field", NeurIPS 2016), as a share
    of the largest. The title gives the side of the centered square that holds half of it.

    Args:
      model: a backbone or classifier, with `features(images)`.
      images: `[B, H, W, C]`; more images give a smoother picture.
    """
    fields = [np.asarray(field) for field in _gradients_of_centers(model, images)]
    figure, axes = grid(1, len(fields), width=2.6, height=2.9)
    norm = LogNorm(_FAINTEST, 1)
    for stage, (panel, field) in enumerate(zip(axes[0], fields, strict=True), start=1):
        drawn = panel.imshow(np.maximum(field / field.max(), _FAINTEST), cmap="magma", norm=norm)
        panel.set_title(f"stage {stage}\nhalf within {_half_side(field)} pixels", size=9)
    figure.colorbar(drawn, ax=axes, shrink=0.75, label="share of the largest")
    height, width = fields[0].shape
    figure.suptitle(f"Effective receptive field of the center, {height} x {width} pixels", size=11)
    return figure


def _gradients_of_centers(model: Backbone, images: jax.Array) -> list[jax.Array]:
    """One `[H, W]` a stage."""
    graph, state = nnx.split(model)

    @jax.jit
    def gradients(state: nnx.State, images: jax.Array) -> list[jax.Array]:
        def centers(images: jax.Array) -> tuple[jax.Array, ...]:
            maps = nnx.merge(graph, state).features(images)
            return tuple(m[:, m.shape[1] // 2, m.shape[2] // 2].sum() for m in maps)

        values, pull_back = jax.vjp(centers, images)
        units = [
            tuple(jnp.full_like(v, i == stage) for i, v in enumerate(values))
            for stage in range(len(values))
        ]
        return [jnp.abs(pull_back(unit)[0]).mean((0, 3)) for unit in units]

    return gradients(state, images)


def _half_side(field: np.ndarray) -> int:
    """Side of the smallest square around the center that holds half of the field."""
    rows, columns = (np.abs(np.arange(size) - size // 2) for size in field.shape)
    distance = np.maximum(rows[:, None], columns[None])
    held = np.cumsum(np.bincount(distance.ravel(), weights=field.ravel()))
    return int(2 * np.searchsorted(held, held[-1] / 2) + 1)
