"""Figures of weights: learned kernels, predicted kernels, and fields over an image."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dwconv_jax.layers import LocallyConnected
from dwconv_jax.ops.connectivity import Connectivity
from dwconv_jax.visualize.capture import find_layer, mixing_weights
from dwconv_jax.visualize.panels import as_picture, grid, show_picture, weight_colors


def static_kernels(model: nnx.Module, layer: str, *, max_groups: int = 48) -> Figure:
    """Draws the learned kernels of a layer with static weights, one per channel group.

    A sliding kernel is drawn as its taps. For other connectivities, each row of a panel is an
    output position and each column a position that it sees. If blocks do not share weights, those
    of the first block are drawn.

    Args:
      model: holds the layer.
      layer: a path of `find_layers`.
      max_groups: the number of groups to draw, from the first.

    Raises:
      ValueError: if there is no such layer, or its weights are not parameters.
    """
    module = find_layer(model, layer)
    if module.traits.dynamic:
        raise ValueError(f"layer={layer!r} has dynamic={module.dynamic!r}, not static weights")
    kernel = np.asarray(module.source.kernel[...], np.float32)[0]  # [Q, K, G]
    total = kernel.shape[-1]
    kernels = _as_panels(np.moveaxis(kernel[..., :max_groups], -1, 0), module.connectivity)
    columns = min(12, len(kernels))
    figure, axes = grid(-(-len(kernels) // columns), columns, width=0.95, height=0.95)
    colors = weight_colors(kernels)
    for panel, taps in zip(axes.flat, kernels, strict=False):
        drawn = panel.imshow(taps, **colors)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="weight")
    unit = _unit(module, total)
    figure.suptitle(f"{layer}: kernels of {len(kernels)} of {total} {unit}s", size=11)
    return figure


def predicted_kernels(
    model: nnx.Module,
    images: jax.Array,
    layer: str,
    *,
    max_groups: int = 8,
    pictures: np.ndarray | None = None,
) -> Figure:
    """Draws the kernels that a layer with pooled weights predicts for each image.

    The last row shows where they differ: the standard deviation over the images.

    Args:
      model: takes the images and holds the layer.
      images: `[B, H, W, C]`, at least two.
      layer: a path of `find_layers`.
      max_groups: the number of groups to draw: those that differ most between the images.
      pictures: uint8 `[B, H, W, 3]`, drawn in place of `images`.

    Raises:
      ValueError: if there is no such layer, its weights are not pooled, or there is one image.
    """
    module = find_layer(model, layer)
    if not module.traits.dynamic or module.traits.per_position:
        raise ValueError(f"layer={layer!r} has dynamic={module.dynamic!r}, not 'pooled'")
    if len(images) < 2:
        raise ValueError(f"images must be two or more to compare, got {len(images)}")
    weights = mixing_weights(model, images, layer).weights[:, 0]  # [B, Q, K, G]
    spread = weights.std(0)
    groups = np.sort(np.argsort(-spread.mean((0, 1)), stable=True)[:max_groups])
    figure, axes = grid(len(images) + 1, len(groups) + 1, width=1.05, height=1.05)
    for row, image in zip(axes, images if pictures is None else pictures, strict=False):
        show_picture(row[0], np.asarray(image))
    kernels = _as_panels(np.moveaxis(weights[..., groups], -1, 1), module.connectivity)
    spreads = _as_panels(np.moveaxis(spread[..., groups], -1, 0), module.connectivity)
    drawn = _draw_all(axes[:-1, 1:], kernels)
    drawn_spread = _draw_all(axes[-1:, 1:], spreads[None])
    unit = _unit(module, weights.shape[-1])
    for panel, group in zip(axes[0, 1:], groups, strict=True):
        panel.set_title(f"{unit} {group}", size=9)
    axes[-1, 0].text(0.5, 0.5, "deviation\nover images", ha="center", va="center", size=8)
    figure.colorbar(drawn, ax=axes[:-1], shrink=0.8, label="weight")
    figure.colorbar(drawn_spread, ax=axes[-1:], label="deviation")
    figure.suptitle(f"{layer}: kernels predicted for each image", size=11)
    return figure


def weight_field(
    model: nnx.Module,
    image: jax.Array,
    layer: str,
    positions: Sequence[tuple[int, int]],
    *,
    max_groups: int = 4,
    picture: np.ndarray | None = None,
) -> Figure:
    """Draws what chosen positions of an image look at, over the image.

    Args:
      model: takes the image and holds the layer.
      image: `[H, W, C]`.
      layer: a path of `find_layers`, with weights of any source.
      positions: rows and columns on the map of the layer: the image divided by its stride.
      max_groups: the number of groups (attention heads) to draw, from the first.
      picture: uint8 `[H, W, 3]`, drawn in place of `image`.

    Raises:
      ValueError: if there is no such layer, no position, or one outside the map.
    """
    if not positions:
        raise ValueError("positions must hold at least one (row, column)")
    mixing = mixing_weights(model, image[None], layer)
    unit = _unit(find_layer(model, layer), mixing.weights.shape[-1])
    # [positions, groups, H, W]
    fields = np.stack([mixing.seen_from(position)[:max_groups] for position in positions])
    height, width = mixing.map_size
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    figure, axes = grid(fields.shape[1], len(positions) + 1, width=1.7, height=1.7)
    axes[0, 0].set_title("picture", size=9)
    shown = np.asarray(image) if picture is None else picture
    show_picture(axes[0, 0], shown, extent=extent)
    _number(axes[0, 0], positions)
    colors = weight_colors(fields)
    gray = as_picture(shown)
    gray = gray if gray.ndim == 2 else gray.mean(-1)
    for column, (row, col) in enumerate(positions):
        for group, panel in enumerate(axes[:, column + 1]):
            panel.imshow(gray, cmap="gray", vmin=0, vmax=2, extent=extent)
            drawn = panel.imshow(fields[column, group], extent=extent, alpha=0.85, **colors)
            square = Rectangle((col - 0.5, row - 0.5), 1, 1, fill=False, color="tab:red")
            panel.add_patch(square)
            place = f"{column + 1}: row {row}, column {col}\n" if group == 0 else ""
            panel.set_title(f"{place}{unit} {group}", size=8)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="weight")
    figure.suptitle(f"{layer}: weights of the positions marked red", size=11)
    return figure


def _unit(module: LocallyConnected, groups: int) -> str:
    """What one set of weights belongs to."""
    return "channel" if groups == module.features else "group"


def _number(panel: Axes, positions: Sequence[tuple[int, int]]) -> None:
    """Writes the number of each position, from 1, at its place."""
    for number, (row, column) in enumerate(positions, start=1):
        panel.text(
            column, row, str(number), ha="center", va="center", size=8, color="tab:red",
            bbox=dict(boxstyle="circle", facecolor="white", edgecolor="tab:red"),
        )  # fmt: skip


def _as_panels(weights: np.ndarray, connectivity: Connectivity) -> np.ndarray:
    """Reshapes `[..., Q, K]` for drawing: taps of a sliding kernel, or outputs by inputs."""
    kernel_size = getattr(connectivity, "kernel_size", None)
    return weights if kernel_size is None else weights.reshape(*weights.shape[:-2], *kernel_size)


def _draw_all(axes: np.ndarray, pictures: np.ndarray):
    """Draws `[rows, columns, h, w]` with shared colors; returns one image for the color bar."""
    colors = weight_colors(pictures)
    for panel, picture in zip(axes.flat, pictures.reshape(-1, *pictures.shape[2:]), strict=True):
        drawn = panel.imshow(picture, **colors)
    return drawn
