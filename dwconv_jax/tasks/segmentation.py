"""Semantic segmentation: losses of both heads, mean IoU, and the data that goes with them."""

import flax
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax import data
from dwconv_jax.models import UPerNet
from dwconv_jax.models.upernet import resize
from dwconv_jax.tasks.segmentation_inference import resize_to_sizes
from dwconv_jax.tasks.segmentation_metrics import (
    IGNORED,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    confusion_matrix,
)
from dwconv_jax.tasks.task import Task

# The weight of the auxiliary head's loss (mmseg).
_AUXILIARY_WEIGHT = 0.4


@flax.struct.dataclass
class SegmentationMetrics(clu_metrics.Collection):
    """Over all pixels of the set that are not ignored."""

    mean_iou: MeanIoU
    mean_accuracy: MeanAccuracy
    pixel_accuracy: PixelAccuracy


class Segmentation(Task):
    """The task that `config.task = "segmentation"` names."""

    best_metric = "mean_iou"

    def __init__(self, config: ConfigDict):
        """Opens the data; errors in `config.dataset` show here.

        Raises:
          ValueError: for a config that cannot be; it names the field.
          FileNotFoundError: for data that is not there.
        """
        super().__init__(config, data.load_segmentation(config.dataset))

    def loss(
        self, model: UPerNet, batch: dict[str, jax.Array], rngs: nnx.Rngs
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of `image[B, H, W, C]` against `label[B, H, W]`; see `segmentation_loss`."""
        return segmentation_loss(model, batch["image"], batch["label"], rngs)

    def evaluate(self, model: UPerNet, batch: dict[str, jax.Array]) -> SegmentationMetrics:
        """Counts the pixels of `label[B, H', W']` at the original sizes, `size[B, 2]`.

        The network sees `image[B, H, W, C]`, resized. Labels are `IGNORED` beyond an image's size
        and in the images that fill up a batch.
        """
        label = batch["label"]
        logits = resize_to_sizes(
            model(batch["image"]), batch["size"], (label.shape[1], label.shape[2])
        )
        confusion = confusion_matrix(label, logits.argmax(-1), self.num_classes)
        return SegmentationMetrics.single_from_model_output(confusion=confusion)


def segmentation_loss(
    model: UPerNet, images: jax.Array, labels: jax.Array, rngs: nnx.Rngs | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of both heads in training mode.

    Args:
      model: the model; its batch statistics are updated.
      images: `[B, H, W, C]`.
      labels: int `[B, H, W]`, classes or `IGNORED`.
      rngs: keys for dropout and stochastic depth.

    Returns:
      The sum of both, and scalars to log.
    """
    logits, auxiliary_logits = (
        resize(x, labels.shape[1:3]) for x in model.head_logits(images, train=True, rngs=rngs)
    )
    decode_loss = pixel_cross_entropy(logits, labels)
    auxiliary_loss = _AUXILIARY_WEIGHT * pixel_cross_entropy(auxiliary_logits, labels)
    return decode_loss + auxiliary_loss, {
        "decode_loss": decode_loss,
        "auxiliary_loss": auxiliary_loss,
        "pixel_accuracy": (logits.argmax(-1) == labels).mean(),
    }


def pixel_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over all pixels of `[B, H, W, K]`; ignored ones add 0 but count in the mean (mmseg)."""
    ignored = labels == IGNORED
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(ignored, 0, labels))
    return jnp.where(ignored, 0, loss).mean()
