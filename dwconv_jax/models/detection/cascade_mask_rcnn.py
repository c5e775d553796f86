"""Cascade Mask R-CNN (Cai and Vasconcelos, 2018): boxes refined in three stages, and masks.

Pictures of several sizes share a canvas. Each counts as padded with zeros to multiples of 32, as in
the reference, and what is beyond that changes nothing: a picture in a batch gives what it gives
alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.models.dense_backbone import DenseBackbone
from dwconv_jax.models.detection.fpn import FeaturePyramid
from dwconv_jax.models.detection.roi_heads import BOX_RESOLUTION, MASK_RESOLUTION, BoxHead, MaskHead
from dwconv_jax.models.detection.rpn import Level, Proposals, RegionProposalNetwork, propose
from dwconv_jax.ops.detection.boxes import BoxCoder, clip
from dwconv_jax.ops.detection.nms import multiclass_nms
from dwconv_jax.ops.detection.roi_align import roi_align_pyramid

# Of each stage of the cascade (section 4 of its paper): ever stricter, ever finer.
CODERS = (
    BoxCoder((0.1, 0.1, 0.2, 0.2)),
    BoxCoder((0.05, 0.05, 0.1, 0.1)),
    BoxCoder((0.033, 0.033, 0.067, 0.067)),
)
_SIZE_MULTIPLE = 32


@dataclasses.dataclass(frozen=True)
class DetectorSettings:
    """What a detector does besides its layers; the defaults are those for COCO.

    Attributes:
      anchor_scale: side of a square anchor over the stride of its level.
      finest_scale: see `pyramid_level`, in pixels.
      train_candidates: anchors of a level that compete to be proposals in training.
      train_proposals: proposals of an image in training.
      candidates: anchors of a level that compete in prediction.
      proposals: proposals of an image in prediction.
      anchor_samples: anchors of an image in the loss of the proposal network; half may be positive.
      roi_samples: regions of an image in the loss of each stage; a quarter may be positive.
      images_per_group: consecutive images that share the normalisers of the losses and, in
        training, a padded size: those of one device of the reference.
      score_threshold: of detections.
      iou_threshold: above which detections of one class suppress each other.
      max_detections: of an image.
    """

    anchor_scale: float = 8.0
    finest_scale: float = 56.0
    train_candidates: int = 2000
    train_proposals: int = 2000
    candidates: int = 1000
    proposals: int = 1000
    anchor_samples: int = 256
    roi_samples: int = 512
    images_per_group: int = 2
    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    max_detections: int = 100


class Pyramid(NamedTuple):
    """Feature maps of images, finest first, and what counts of them."""

    levels: tuple[jax.Array, ...]  # [B, H_l, W_l, C]
    extents: tuple[jax.Array, ...]  # int [B, 2] each


class MaskedDetections(NamedTuple):
    """What is found in images, by descending score; empty slots have class -1 and zeros."""

    boxes: jax.Array  # float32 [B, D, 4], pixels of the original image
    scores: jax.Array  # float32 [B, D]
    classes: jax.Array  # int32 [B, D]
    masks: jax.Array  # float32 [B, D, 28, 28], probabilities inside the box


class CascadeMaskRCNN(nnx.Module):
    """A backbone, a feature pyramid, a proposal network, and three heads for boxes and masks."""

    def __init__(
        self,
        *,
        num_classes: int = 80,
        pyramid_features: int = 256,
        hidden_features: int = 1024,
        settings: Mapping[str, Any] | None = None,
        rngs: nnx.Rngs,
        **backbone: Any,
    ):
        """Builds the model.

        Args:
          num_classes: classes of objects, the background not counted.
          pyramid_features: channels of the pyramid and of all convolutions after it.
          hidden_features: width of the hidden layer of the box heads.
          settings: fields of `DetectorSettings` that differ from the defaults.
          rngs: initialisation keys.
          **backbone: see `Backbone`.

        Raises:
          ValueError: for a number of classes below 1 or an unknown setting.
        """
        if num_classes < 1:
            raise UserError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes, self.settings = num_classes, _make_settings(settings or {})
        self.backbone = DenseBackbone(rngs=rngs, **backbone)
        shared: dict[str, Any] = dict(rngs=rngs)
        shared |= {name: backbone[name] for name in ("dtype", "param_dtype") if name in backbone}
        self.pyramid = FeaturePyramid(self.backbone.widths, pyramid_features, **shared)
        stride = self.backbone.patch_embed.patch_size
        self.strides = tuple(stride * 2**i for i in range(len(self.backbone.widths) + 1))
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
        """Finds objects.

        Args:
          images: `[B, H, W, in_channels]`, floating, 0 beyond the size of each; `H` and `W` are
            multiples of 32.
          size: int `[B, 2]`, height and width of each image.
          scale: `[B, 2]`, how much larger each image is than the original, down and across; None
            for boxes in pixels of `images`.

        Returns:
          `MaskedDetections` of `[B, max_detections]`.
        """
        pyramid = self.features(images, size)
        proposals = self.propose(self.rpn(*pyramid), size, train=False)
        boxes, scores, valid = self.refine(pyramid, proposals, size)
        return self.select(pyramid, boxes, scores, valid, scale)

    def features(
        self,
        images: jax.Array,
        size: jax.Array,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Pyramid:
        """The pyramid of five levels; in training the images of a group count as equally large."""
        if any(n % _SIZE_MULTIPLE for n in images.shape[1:3]):
            raise UserError(
                f"images must be [B, H, W, C] with H and W multiples of {_SIZE_MULTIPLE}, got "
                f"shape {images.shape}"
            )
        extent = self.padded_size(size, train)
        maps = self.backbone.features(images, train, rngs, extent)
        return Pyramid(*self.pyramid(maps, self.backbone.extents(extent)))

    def padded_size(self, size: jax.Array, train: bool) -> jax.Array:
        """int `[B, 2]`: the sizes after zero-padding, of a group together in training."""
        padded = -(-size // _SIZE_MULTIPLE) * _SIZE_MULTIPLE
        if not train:
            return padded
        count = self.settings.images_per_group
        if len(size) % count:
            raise UserError(
                f"the batch of {len(size)} images must be a multiple of images_per_group={count}"
            )
        largest = padded.reshape(-1, count, 2).max(1, keepdims=True)
        return jnp.broadcast_to(largest, (len(largest), count, 2)).reshape(-1, 2)

    def propose(self, levels: Sequence[Level], size: jax.Array, train: bool) -> Proposals:
        """The proposals that training or prediction starts from; see `rpn.propose`."""
        settings = self.settings
        if train:
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
            sizes=pyramid.extents[:count],
            finest_scale=self.settings.finest_scale,
        )
        return pooled.reshape(-1, *pooled.shape[2:])

    def classify(
        self,
        stage: int,
        pyramid: Pyramid,
        boxes: jax.Array,
        train: bool = False,
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
        """The three stages in prediction.

        Returns:
          Boxes of each class `[B, P, K, 4]`, probabilities `[B, P, K]`, and which proposals there
          are, `[B, P]`.
        """
        boxes, all_logits = proposals.boxes, []
        for stage, coder in enumerate(CODERS):
            logits, codes = self.classify(stage, pyramid, boxes)
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
        """Suppression within classes, at the scale of the original images, and masks."""
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


def refined(
    coder: BoxCoder, boxes: jax.Array, codes: jax.Array, classes: jax.Array, size: jax.Array
) -> jax.Array:
    """Boxes `[B, R, 4]` after the step that one of the classes' codes `[B, R, K, 4]` tells."""
    own = jnp.take_along_axis(codes, classes[..., None, None], axis=2)[:, :, 0]
    return clip(coder.decode(boxes, own), size[:, None])


def of_class(maps: jax.Array, classes: jax.Array) -> jax.Array:
    """The maps `[R, H, W]` of a class each, out of `[R, H, W, K]`; of class 0 for -1."""
    index = jnp.maximum(classes, 0)[:, None, None, None]
    return jnp.take_along_axis(maps, index, axis=-1)[..., 0]


def _make_settings(overrides: Mapping[str, Any]) -> DetectorSettings:
    known = [field.name for field in dataclasses.fields(DetectorSettings)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise UserError(f"unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
    return DetectorSettings(**overrides)
