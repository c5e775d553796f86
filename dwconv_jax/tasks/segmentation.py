"""Semantic segmentation: losses of both heads, mean IoU, and the data that goes with them."""

from collections.abc import Iterator

import flax
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax import data
from dwconv_jax.data.segmentation import Batch
from dwconv_jax.models import UPerNet, create_model
from dwconv_jax.models.upernet import resize
from dwconv_jax.tasks.segmentation_inference import resize_to_sizes
from dwconv_jax.tasks.segmentation_metrics import (
    IGNORED,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    confusion_matrix,
)

# The weight of the auxiliary head's loss (mmseg).
_AUXILIARY_WEIGHT = 0.4


@flax.struct.dataclass
class SegmentationMetrics(clu_metrics.Collection):
    """Over all pixels of the set that are not ignored."""

    mean_iou: MeanIoU
    mean_accuracy: MeanAccuracy
    pixel_accuracy: PixelAccuracy


class Segmentation:
    """The task that `config.task = "segmentation"` names."""

    best_metric = "mean_iou"

    def __init__(self, config: ConfigDict):
        """Opens the data; errors in `config.dataset` show here.

        Raises:
          ValueError: for a config that cannot be; it names the field.
          FileNotFoundError: for data that is not there.
        """
        self._config = config
        self._dataset = data.load_segmentation(config.dataset)
        self.num_classes = self._dataset.num_classes
        self.class_names = self._dataset.class_names
        self.num_train = self._dataset.num_train
        if config.batch_size > self.num_train:
            raise ValueError(
                f"config.batch_size={config.batch_size} must not exceed the {self.num_train} "
                "training examples"
            )
        self.steps_per_epoch = self.num_train // config.batch_size

    def create_model(self, rngs: nnx.Rngs) -> nnx.Module:
        """The model that `config.model` describes, for this data's classes."""
        arguments = self._config.model.to_dict()
        return create_model(
            arguments.pop("name"), num_classes=self.num_classes, rngs=rngs, **arguments
        )

    def train_batches(self, start_step: int) -> Iterator[Batch]:
        """This process' share of every global batch, from a step on."""
        return self._dataset.train_batches(
            self._config.batch_size,
            seed=self._config.seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def eval_batches(self) -> Iterator[Batch]:
        """This process' share of the evaluation data; batches of one shape follow each other."""
        return self._dataset.eval_batches(
            self._config.eval_batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

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
