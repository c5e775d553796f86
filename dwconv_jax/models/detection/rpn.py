"""The region proposal network (Ren et al., 2015): boxes that may hold an object."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.convolution import convolve
from dwconv_jax.layers.initializers import normal
from dwconv_jax.layers.pytree import keyed_by_position
from dwconv_jax.models.torch_layout import Layout, conv, conv1x1
from dwconv_jax.ops.detection.anchors import anchors
from dwconv_jax.ops.detection.boxes import BoxCoder, clip
from dwconv_jax.ops.detection.nms import move_apart, nms
from dwconv_jax.ops.sharding import by_image

CODER = BoxCoder()


@keyed_by_position
class Level(NamedTuple):
    """Predictions for the `N = H * W * A` anchors of one level of the pyramid."""

    logits: jax.Array  # float32 [B, N], objectness
    codes: jax.Array  # float32 [B, N, 4], boxes encoded by `CODER`
    anchors: jax.Array  # float32 [N, 4]
    valid: jax.Array  # bool [B, N], anchors at positions that count


@keyed_by_position
class Proposals(NamedTuple):
    """Boxes that may hold an object, by descending score; empty slots are zeros."""

    boxes: jax.Array  # [B, P, 4]
    scores: jax.Array  # [B, P], 0 to 1
    valid: jax.Array  # bool [B, P]


class RegionProposalNetwork(nnx.Module):
    """A small head shared by all levels: objectness and a box for each anchor."""

    def __init__(
        self,
        features: int,
        strides: Sequence[int],
        anchor_scale: float,
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        *,
        rngs: nnx.Rngs,
        **dtypes: Any,
    ):
        self.strides, self.anchor_scale = tuple(strides), anchor_scale
        self.anchor_ratios = tuple(anchor_ratios)
        arguments: dict[str, Any] = dict(kernel_init=normal(0.01), rngs=rngs, **dtypes)
        count = len(self.anchor_ratios)
        self.conv = nnx.Conv(features, features, (3, 3), conv_general_dilated=convolve, **arguments)
        self.objectness = nnx.Linear(features, count, **arguments)
        self.regression = nnx.Linear(features, 4 * count, **arguments)

    def __call__(self, levels: Sequence[jax.Array], canvases: Sequence[Canvas]) -> list[Level]:
        """Predictions for each level `[B, H, W, C]` of a `FeaturePyramid`."""
        return [
            self._level(x, canvas, stride)
            for x, canvas, stride in zip(levels, canvases, self.strides, strict=True)
        ]

    def torch_layout(self) -> Layout:
        """The entries of mmdet's checkpoints."""
        yield from conv(self.conv, "rpn_conv")
        yield from conv1x1(self.objectness, "rpn_cls")
        yield from conv1x1(self.regression, "rpn_reg")

    def _level(self, x: jax.Array, canvas: Canvas, stride: int) -> Level:
        batch, height, width, _ = x.shape
        hidden = jax.nn.relu(self.conv(x))
        codes = self.regression(hidden).astype(jnp.float32)
        grid = anchors((height, width), stride, self.anchor_scale, self.anchor_ratios)
        valid = canvas.valid(x)
        assert valid is not None
        return Level(
            self.objectness(hidden).astype(jnp.float32).reshape(batch, -1),
            # In two steps, which meshes with explicit axes can follow.
            codes.reshape(batch, height, width, -1, 4).reshape(batch, -1, 4),
            jnp.asarray(grid).reshape(-1, 4),
            jnp.broadcast_to(valid, (*valid.shape[:3], grid.shape[2])).reshape(batch, -1),
        )


def propose(
    levels: Sequence[Level],
    size: jax.Array,
    *,
    candidates: int,
    max_proposals: int,
    iou_threshold: float = 0.7,
) -> Proposals:
    """Selects the best boxes of all levels after NMS within each; without gradient.

    Args:
      levels: predictions of the network.
      size: int `[B, 2]`, height and width of the images; boxes are clipped to them.
      candidates: anchors of a level that compete.
      max_proposals: `P`.
      iou_threshold: see `nms`.

    Returns:
      `Proposals` of `[B, P]`.
    """

    def of_image(
        said: Sequence[tuple[jax.Array, ...]], size: jax.Array, grids: Sequence[jax.Array]
    ) -> Proposals:
        best = [
            _best(logits, codes, grid, valid, size, candidates)
            for grid, (logits, codes, valid) in zip(grids, said, strict=True)
        ]
        boxes, scores = (jnp.stack(arrays) for arrays in zip(*best, strict=True))
        index = jnp.broadcast_to(jnp.arange(len(levels))[:, None], scores.shape)
        apart = move_apart(boxes.reshape(-1, 4), index.reshape(-1), scores.reshape(-1) >= 0)

        def kept(apart: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
            places, valid = nms(
                apart,
                scores,
                iou_threshold,
                min(max_proposals, len(scores)),
                valid=scores >= 0,
            )
            return places, jnp.where(valid, scores[places], -1)

        places, scores = jax.vmap(kept)(apart.reshape(boxes.shape), scores)
        boxes = jnp.take_along_axis(boxes, places[..., None], 1).reshape(-1, 4)
        scores, order = _top(scores.reshape(-1), max_proposals)
        valid = scores >= 0
        return Proposals(
            jnp.where(valid[:, None], boxes[order], 0), jnp.where(valid, scores, 0), valid
        )

    said = [(level.logits, level.codes, level.valid) for level in levels]
    grids = [level.anchors for level in levels]
    of_images = jax.vmap(of_image, in_axes=(0, 0, None))
    return by_image(of_images, jax.lax.stop_gradient(said), size, grids)


def _best(
    logits: jax.Array,
    codes: jax.Array,
    anchors: jax.Array,
    valid: jax.Array,
    size: jax.Array,
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """Boxes `[count, 4]` and scores `[count]` of one image's best anchors; -1 in empty slots."""
    scores, indices = _top(jnp.where(valid, jax.nn.sigmoid(logits), -1), count)
    return clip(CODER.decode(anchors[indices], codes[indices]), size), scores


def _top(scores: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`top_k`, padded with scores of -1 where there are fewer."""
    scores, indices = jax.lax.top_k(scores, min(count, len(scores)))
    missing = (0, count - len(scores))
    return jnp.pad(scores, missing, constant_values=-1), jnp.pad(indices, missing)
