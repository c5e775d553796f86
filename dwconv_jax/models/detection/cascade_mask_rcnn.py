"""Cascade Mask R-CNN (Cai and Vasconcelos, 2018): boxes refined in three stages, and masks.

Images of several sizes share a canvas. Each counts as zero-padded to multiples of 32, as in the
reference, and the rest of the canvas changes nothing: an image in a batch gives the same result as
alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.mode import is_training
from dwconv_jax.layers.pytree import keyed_by_position
from dwconv_jax.models.dense_backbone import DenseBackbone
from dwconv_jax.models.detection.config import CascadeMaskRCNNConfig, make_settings
from dwconv_jax.models.detection.fpn import FeaturePyramid
from dwconv_jax.models.detection.roi_heads import BOX_RESOLUTION, MASK_RESOLUTION, BoxHead, MaskHead
from dwconv_jax.models.detection.rpn import Level, Proposals, RegionProposalNetwork, propose
from dwconv_jax.models.family import Family
from dwconv_jax.models.head import Head
from dwconv_jax.models.recipe import Recreatable
from dwconv_jax.models.torch_layout import Layout, prefixed
from dwconv_jax.ops.detection.boxes import BoxCoder, clip
from dwconv_jax.ops.detection.nms import multiclass_nms
from dwconv_jax.ops.detection.roi_align import roi_align_pyramid
from dwconv_jax.ops.sharding import by_image

# One coder for each stage of the cascade (section 4 of the paper), each finer than the last.
CODERS = (
    BoxCoder((0.1, 0.1, 0.2, 0.2)),
    BoxCoder((0.05, 0.05, 0.1, 0.1)),
    BoxCoder((0.033, 0.033, 0.067, 0.067)),
)
_SIZE_MULTIPLE = 32


@keyed_by_position
class Pyramid(NamedTuple):
    """Feature maps of a batch of images, finest first, and their canvases."""

    levels: tuple[jax.Array, ...]  # [B, H_l, W_l, C]
    canvases: tuple[Canvas, ...]


class MaskedDetections(NamedTuple):
    """Detected objects by descending score; empty slots have class -1 and zeros."""

    boxes: jax.Array  # float32 [B, D, 4], pixels of the original image
    scores: jax.Array  # float32 [B, D]
    classes: jax.Array  # int32 [B, D]
    masks: jax.Array  # float32 [B, D, 28, 28], probabilities inside the box


class CascadeMaskRCNN(Recreatable, nnx.Module):
    """A backbone, a feature pyramid, a proposal network, and three heads for boxes and masks."""

    Config = CascadeMaskRCNNConfig
    HEAD = Head(
        names=re.compile(
            r"roi_head\.(bbox_head\.\d\.fc_(cls|reg)|mask_head\.\d\.conv_logits)\."
            r"|box_heads/\d/(classification|regression)/|mask_heads/\d/logits/"
        ),
        last_biases=("roi_head.mask_head.0.conv_logits.bias", "mask_heads/0/logits/bias"),
    )

    def __init__(
        self,
        family: Family,
        mixer: Mapping[str, Any],
        config: CascadeMaskRCNNConfig,
        *,
        rngs: nnx.Rngs,
    ):
        """Builds the model; see `Backbone` for the arguments.

        Raises:
          UserError: for an unknown setting.
        """
        self.deterministic = True
        self.num_classes, self.settings = config.num_classes, make_settings(config.settings)
        self.backbone = DenseBackbone(family, mixer, config, rngs=rngs)
        shared: dict[str, Any] = dict(rngs=rngs, **config.dtypes)
        pyramid_features, num_classes = config.pyramid_features, config.num_classes
        hidden_features = config.hidden_features
        self.pyramid = FeaturePyramid(self.backbone.widths, pyramid_features, **shared)
        self.strides = (*self.backbone.strides, 2 * self.backbone.strides[-1])
        self.rpn = RegionProposalNetwork(
            pyramid_features, self.strides, self.settings.anchor_scale, **shared
        )
        self.box_heads = nnx.List(
            [BoxHead(pyramid_features, hidden_features, num_classes, **shared) for _ in CODERS]
        )
        self.mask_heads = nnx.List(
            [MaskHead(pyramid_features, num_classes, **shared) for _ in CODERS]
        )

    def __call__(
        self, images: jax.Array, size: jax.Array, scale: jax.Array | None = None
    ) -> MaskedDetections:
        """Detects objects.

        Args:
          images: `[B, H, W, in_channels]`, floating, 0 beyond the size of each; `H` and `W` are
            multiples of 32.
          size: int `[B, 2]`, height and width of each image.
          scale: `[B, 2]`, how much larger each image is than the original, down and across; None
            for boxes in pixels of `images`.

        Returns:
          `MaskedDetections` of `[B, max_detections]`.
        """
        pyramid = self.features(images, size, train=False)
        proposals = self.propose(self.rpn(*pyramid), size, train=False)
        boxes, scores, valid = self.refine(pyramid, proposals, size)
        return self.select(pyramid, boxes, scores, valid, scale)

    def features(
        self,
        images: jax.Array,
        size: jax.Array,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Pyramid:
        """The five levels of the pyramid; in training, images of a group count as equally large."""
        if any(n % _SIZE_MULTIPLE for n in images.shape[1:3]):
            raise UserError(
                f"images must be [B, H, W, C] with H and W multiples of {_SIZE_MULTIPLE}, got "
                f"shape {images.shape}"
            )
        canvas = Canvas(self.padded_size(size, train))
        maps = self.backbone.features(images, train, rngs, canvas)
        canvases = [canvas.strided(stride) for stride in self.backbone.strides]
        return Pyramid(*self.pyramid(maps, canvases))

    def padded_size(self, size: jax.Array, train: bool | None) -> jax.Array:
        """Sizes after zero-padding, int `[B, 2]`; in training, each the largest of its group."""
        padded = -(-size // _SIZE_MULTIPLE) * _SIZE_MULTIPLE
        if not is_training(train, self.deterministic):
            return padded
        count = self.settings.images_per_group
        if len(size) % count:
            raise UserError(
                f"the batch of {len(size)} images must be a multiple of images_per_group={count}"
            )

        def largest(padded: jax.Array) -> jax.Array:
            return padded.reshape(-1, count, 2).max(1).repeat(count, axis=0)

        return by_image(largest, padded)

    def propose(self, levels: Sequence[Level], size: jax.Array, train: bool | None) -> Proposals:
        """Proposals for training or prediction; see `rpn.propose`."""
        settings = self.settings
        if is_training(train, self.deterministic):
            counts = settings.train_candidates, settings.train_proposals
        else:
            counts = settings.candidates, settings.proposals
        return propose(levels, size, candidates=counts[0], max_proposals=counts[1])

    def pool(self, pyramid: Pyramid, boxes: jax.Array, resolution: int) -> jax.Array:
        """Features of boxes `[B, R, 4]` as one batch of regions, `[B * R, P, P, C]`."""
        count = len(pyramid.levels) - 1
        pooled = roi_align_pyramid(
            pyramid.levels[:count],
            boxes,
            resolution,
            strides=self.strides[:count],
            sizes=[jnp.asarray(canvas.extent) for canvas in pyramid.canvases[:count]],
            finest_scale=self.settings.finest_scale,
        )
        return pooled.reshape(-1, *pooled.shape[2:])

    def classify(
        self,
        stage: int,
        pyramid: Pyramid,
        boxes: jax.Array,
        train: bool | None = None,
        valid: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Logits `[B, R, K + 1]` and codes `[B, R, K, 4]` of one stage for boxes `[B, R, 4]`."""
        pooled = self.pool(pyramid, boxes, BOX_RESOLUTION)
        valid = None if valid is None else valid.reshape(-1)
        logits, codes = self.box_heads[stage](pooled, train, valid)
        shape = boxes.shape[:2]
        return logits.reshape(*shape, -1), codes.reshape(*shape, -1, 4)

    def refine(
        self, pyramid: Pyramid, proposals: Proposals, size: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Runs the three stages of the cascade for prediction.

        Returns:
          Boxes of each class `[B, P, K, 4]`, probabilities `[B, P, K]`, and which proposals are
          valid, `[B, P]`.
        """
        boxes, all_logits = proposals.boxes, []
        for stage, coder in enumerate(CODERS):
            logits, codes = self.classify(stage, pyramid, boxes, train=False)
            all_logits.append(logits)
            if stage < len(CODERS) - 1:
                likeliest = logits[..., :-1].argmax(-1)
                boxes = refined(coder, boxes, codes, likeliest, size)
        probabilities = jax.nn.softmax(sum(all_logits[1:], all_logits[0]) / len(CODERS))
        of_classes = coder.decode(boxes[:, :, None], codes)
        return clip(of_classes, size[:, None, None]), probabilities[..., :-1], proposals.valid

    def select(
        self,
        pyramid: Pyramid,
        boxes: jax.Array,
        scores: jax.Array,
        valid: jax.Array,
        scale: jax.Array | None = None,
    ) -> MaskedDetections:
        """Applies NMS within each class at the scale of the original images, and predicts masks."""
        if scale is None:
            scale = jnp.ones((len(boxes), 2))
        box_scale = jnp.concatenate([scale[:, ::-1]] * 2, axis=-1)

        def suppress(boxes: jax.Array, scores: jax.Array, valid: jax.Array) -> Any:
            return multiclass_nms(
                boxes,
                scores,
                score_threshold=self.settings.score_threshold,
                iou_threshold=self.settings.iou_threshold,
                max_kept=self.settings.max_detections,
                valid=valid,
            )

        found = jax.vmap(suppress)(boxes / box_scale[:, None, None], scores, valid)
        masks = self.masks(pyramid, found.boxes * box_scale[:, None], found.classes)
        return MaskedDetections(found.boxes, found.scores, found.classes, masks)

    def masks(self, pyramid: Pyramid, boxes: jax.Array, classes: jax.Array) -> jax.Array:
        """Probabilities `[B, D, 28, 28]` of a class inside each box: the mean of three heads."""
        pooled = self.pool(pyramid, boxes, MASK_RESOLUTION)
        probabilities = [jax.nn.sigmoid(head(pooled)) for head in self.mask_heads]
        mean = sum(probabilities[1:], probabilities[0]) / len(probabilities)
        own = of_class(mean, classes.reshape(-1))
        there = (classes >= 0)[..., None, None]
        return jnp.where(there, own.reshape(*classes.shape, *own.shape[1:]), 0)

    def torch_layout(self, image_size: int | None = None, layout: str | None = None) -> Layout:
        """The entries of the authors' (mmdet's) checkpoints, in their order."""
        yield from prefixed("backbone", self.backbone.torch_layout(image_size, layout))
        yield from prefixed("neck", self.pyramid.torch_layout())
        yield from prefixed("rpn_head", self.rpn.torch_layout())
        for i, box_head in enumerate(self.box_heads):
            yield from prefixed(f"roi_head.bbox_head.{i}", box_head.torch_layout())
        for i, mask_head in enumerate(self.mask_heads):
            yield from prefixed(f"roi_head.mask_head.{i}", mask_head.torch_layout())


def refined(
    coder: BoxCoder, boxes: jax.Array, codes: jax.Array, classes: jax.Array, size: jax.Array
) -> jax.Array:
    """Decodes boxes `[B, R, 4]` with the codes `[B, R, K, 4]` of one class each."""
    own = jnp.take_along_axis(codes, classes[..., None, None], axis=2)[:, :, 0]
    return clip(coder.decode(boxes, own), size[:, None])


def of_class(maps: jax.Array, classes: jax.Array) -> jax.Array:
    """Selects one class of each of the maps `[R, H, W, K]`: `[R, H, W]`; class 0 for -1."""
    index = jnp.maximum(classes, 0)[:, None, None, None]
    return jnp.take_along_axis(maps, index, axis=-1)[..., 0]
