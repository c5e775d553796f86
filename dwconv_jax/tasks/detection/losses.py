"""The losses of Cascade Mask R-CNN, with mmdet's targets and normalizers.

Every term is normalized within groups of images (those on one device of the reference) and averaged
over the groups.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dwconv_jax.models.detection.cascade_mask_rcnn import (
    CODERS,
    CascadeMaskRCNN,
    Pyramid,
    of_class,
    refined,
)
from dwconv_jax.models.detection.config import DetectorSettings
from dwconv_jax.models.detection.roi_heads import MASK_RESOLUTION
from dwconv_jax.models.detection.rpn import CODER, Level, Proposals
from dwconv_jax.ops.detection.anchors import inside
from dwconv_jax.ops.detection.boxes import giou
from dwconv_jax.ops.detection.masks import mask_targets
from dwconv_jax.ops.detection.matching import IGNORED, match
from dwconv_jax.ops.detection.sampling import Sample, sample, to_slots
from dwconv_jax.ops.sharding import by_image, by_xla

# Of each stage: the least overlap of a positive region, and the weight of its losses.
_STAGE_IOU = (0.5, 0.6, 0.7)
_STAGE_WEIGHT = (1.0, 0.5, 0.25)
_POSITIVE_REGIONS = 0.25
_BOX_WEIGHT = 10.0
# Where the loss of the anchors' codes turns from quadratic to linear.
_ANCHOR_BETA = 1 / 9

Losses = dict[str, jax.Array]


class Objects(NamedTuple):
    """The objects of a batch of images, padded to the same number."""

    boxes: jax.Array  # float32 [B, N, 4], pixels
    classes: jax.Array  # int32 [B, N]; -1 for padding
    masks: jax.Array  # uint8 [B, N, H, W / 8], packed bits


class Regions(NamedTuple):
    """The regions that a stage trains on; positives come first."""

    boxes: jax.Array  # [B, R, 4]
    objects: jax.Array  # int32 [B, R]: the object that a positive region should find
    positive: jax.Array  # bool [B, R]
    valid: jax.Array  # bool [B, R]; False for empty slots
    injected: jax.Array  # bool [B, R]: the box of an object itself


def detection_loss(
    model: CascadeMaskRCNN, images: jax.Array, size: jax.Array, objects: Objects, rngs: nnx.Rngs
) -> tuple[jax.Array, Losses]:
    """Returns the loss of all heads in training mode.

    Args:
      model: the model; its batch statistics are updated.
      images: `[B, H, W, C]`, zero outside each image.
      size: int `[B, 2]`, height and width of each image.
      objects: the ground truth.
      rngs: keys for sampling and stochastic depth.

    Returns:
      The sum of all terms, and scalars to log.
    """
    pyramid = model.features(images, size, train=True, rngs=rngs)
    levels = model.rpn(*pyramid)
    keys = jax.random.split(rngs.sampling(), (1 + len(CODERS), len(images)))
    class_losses, box_losses = anchor_losses(levels, size, objects, keys[0], model.settings)
    losses = {"rpn_class_loss": class_losses.sum(), "rpn_box_loss": box_losses.sum()}
    proposals = model.propose(levels, size, train=True)
    stage_losses, accuracies = cascade_losses(model, pyramid, proposals, size, objects, keys[1:])
    losses |= stage_losses
    return jnp.stack(list(losses.values())).sum(), losses | accuracies


def anchor_losses(
    levels: Sequence[Level],
    size: jax.Array,
    objects: Objects,
    keys: jax.Array,
    settings: DetectorSettings,
) -> tuple[jax.Array, jax.Array]:
    """Returns the objectness and box losses of the proposal network, `[levels]` each."""
    anchors = jnp.concatenate([level.anchors for level in levels])
    ends = np.cumsum([len(level.anchors) for level in levels])

    def targets(
        boxes: jax.Array, classes: jax.Array, size: jax.Array, key: jax.Array, anchors: jax.Array
    ) -> tuple[Sample, jax.Array]:
        matched = match(
            anchors,
            boxes,
            positive_iou=0.7,
            negative_iou=0.3,
            low_quality_iou=0.3,
            boxes_valid=inside(anchors, size),
            objects_valid=classes >= 0,
        )
        count = settings.anchor_samples
        drawn = sample(key, matched, count, count // 2)
        own = jnp.where(drawn.positive[:, None], boxes[jnp.maximum(matched, 0)], anchors)
        return drawn, CODER.encode(anchors, own)

    of_images = jax.vmap(targets, in_axes=(0, 0, 0, 0, None))
    drawn, codes = by_image(of_images, objects.boxes, objects.classes, size, keys, anchors)
    logits, predicted = (
        jnp.concatenate([getattr(level, name) for level in levels], axis=1)
        for name in ("logits", "codes")
    )
    # The reference counts at least one positive and one negative per image.
    counts = [jnp.maximum(mask.sum(1), 1) for mask in drawn]
    normalizer = _group(counts[0] + counts[1], settings.images_per_group)
    entropy = optax.sigmoid_binary_cross_entropy(logits, drawn.positive.astype(jnp.float32))
    entropy = jnp.where(drawn.positive | drawn.negative, entropy, 0)
    distance = optax.huber_loss(predicted, codes, delta=_ANCHOR_BETA).sum(-1) / _ANCHOR_BETA
    distance = jnp.where(drawn.positive, distance, 0)

    def by_level(loss: jax.Array) -> jax.Array:
        parts = jnp.split(loss, ends[:-1], axis=1)
        totals = [_group(part.sum(1), settings.images_per_group) for part in parts]
        return jnp.stack([(total / normalizer).mean() for total in totals])

    return by_level(entropy), by_level(distance)


def cascade_losses(
    model: CascadeMaskRCNN,
    pyramid: Pyramid,
    proposals: Proposals,
    size: jax.Array,
    objects: Objects,
    keys: jax.Array,
) -> tuple[Losses, Losses]:
    """Returns the losses and accuracies of the three stages; `keys` are `[stages, B]`."""
    settings = model.settings
    losses, accuracies = {}, {}
    boxes, valid = proposals.boxes, proposals.valid
    for stage, (coder, weight) in enumerate(zip(CODERS, _STAGE_WEIGHT, strict=True)):
        regions = sample_regions(keys[stage], boxes, valid, objects, _STAGE_IOU[stage], settings)
        logits, codes = model.classify(
            stage, pyramid, regions.boxes, train=True, valid=regions.valid
        )
        own_class = jnp.take_along_axis(objects.classes, regions.objects, 1)
        labels = jnp.where(regions.positive, own_class, model.num_classes)

        def mean(loss: jax.Array, of: jax.Array, where: jax.Array) -> jax.Array:
            """Divides the sum over `where` by the number in `of`, within groups."""
            total = _group(jnp.where(where, loss, 0), settings.images_per_group)
            count = _group(of, settings.images_per_group)
            return (total / jnp.maximum(count, 1)).mean()

        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        own_codes = jnp.maximum(own_class, 0)
        predicted = coder.decode(regions.boxes, _codes_of(own_codes, codes))
        wanted = jnp.take_along_axis(objects.boxes, regions.objects[..., None], 1)
        overlap = giou(predicted, wanted)
        mask_loss, positive = _mask_losses(model, stage, pyramid, size, objects, regions)
        name = f"stage{stage + 1}"
        losses[f"{name}_class_loss"] = weight * mean(entropy, regions.valid, regions.valid)
        losses[f"{name}_box_loss"] = (weight * _BOX_WEIGHT) * mean(
            1 - overlap, regions.valid, regions.positive
        )
        losses[f"{name}_mask_loss"] = weight * mean(mask_loss, positive, positive)
        right = (logits.argmax(-1) == labels).astype(jnp.float32)
        accuracies[f"{name}_accuracy"] = mean(right, regions.valid, regions.valid)

        likeliest = jnp.where(regions.positive, own_codes, logits[..., :-1].argmax(-1))
        boxes = refined(coder, regions.boxes, jax.lax.stop_gradient(codes), likeliest, size)
        valid = regions.valid & ~regions.injected
    return losses, accuracies


def sample_regions(
    keys: jax.Array,
    boxes: jax.Array,
    valid: jax.Array,
    objects: Objects,
    iou_threshold: float,
    settings: DetectorSettings,
) -> Regions:
    """Samples the regions of a stage from boxes `[B, P, 4]` and the boxes of the objects."""
    count = settings.roi_samples
    max_positive = int(count * _POSITIVE_REGIONS)

    def of_image(
        boxes: jax.Array,
        valid: jax.Array,
        own_boxes: jax.Array,
        classes: jax.Array,
        key: jax.Array,
    ) -> Regions:
        present, num_objects = classes >= 0, len(classes)
        matched = match(
            boxes,
            own_boxes,
            positive_iou=iou_threshold,
            negative_iou=iou_threshold,
            boxes_valid=valid,
            objects_valid=present,
        )
        itself = jnp.where(present, jnp.arange(num_objects), IGNORED)
        matched = jnp.concatenate([itself, matched])
        slots = to_slots(sample(key, matched, count, max_positive), count)
        candidates = jnp.concatenate([own_boxes, boxes])
        return Regions(
            jnp.where(slots.valid[:, None], candidates[slots.indices], 0),
            jnp.maximum(matched[slots.indices], 0),
            slots.positive,
            slots.valid,
            slots.valid & (slots.indices < num_objects),
        )

    return by_image(jax.vmap(of_image), boxes, valid, objects.boxes, objects.classes, keys)


def _mask_losses(
    model: CascadeMaskRCNN,
    stage: int,
    pyramid: Pyramid,
    size: jax.Array,
    objects: Objects,
    regions: Regions,
) -> tuple[jax.Array, jax.Array]:
    """Returns mask losses of the regions that can be positive, and which are, `[B, M]` each."""
    count = int(model.settings.roi_samples * _POSITIVE_REGIONS)
    boxes, own, positive = (
        array[:, :count] for array in (regions.boxes, regions.objects, regions.positive)
    )
    classes = jnp.take_along_axis(objects.classes, own, 1)
    logits = model.mask_heads[stage](model.pool(pyramid, boxes, MASK_RESOLUTION))
    logits = of_class(logits, classes.reshape(-1))
    padded_size = model.padded_size(size, train=False)
    targets = mask_targets(objects.masks, own, boxes, padded_size, 2 * MASK_RESOLUTION)
    entropy = optax.sigmoid_binary_cross_entropy(logits, targets.reshape(logits.shape))
    return entropy.mean((1, 2)).reshape(positive.shape), positive


def _codes_of(classes: jax.Array, codes: jax.Array) -> jax.Array:
    """Selects the codes `[B, R, 4]` of `classes[B, R]` from `codes[B, R, K, 4]`."""
    return jnp.take_along_axis(codes, classes[..., None, None], axis=2)[:, :, 0]


def _group(x: jax.Array, images_per_group: int) -> jax.Array:
    """Sums `[B, ...]` to `[B / images_per_group]`."""

    def total(x: jax.Array) -> jax.Array:
        return x.reshape(len(x) // images_per_group, -1).sum(1)

    return by_xla(total, x, split=(None,))
