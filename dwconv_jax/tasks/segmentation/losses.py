"""The loss of both heads of UPerNet, with mmseg's weights."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dwconv_jax.models import UPerNet
from dwconv_jax.models.segmentation.upernet import resize

# The label of pixels without a class.
IGNORED = 255
# The weight of the auxiliary head's loss (mmseg).
_AUXILIARY_WEIGHT = 0.4


def segmentation_loss(
    model: UPerNet, images: jax.Array, labels: jax.Array, rngs: nnx.Rngs | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss of both heads in training mode.

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
    """Returns the mean over all pixels of `[B, H, W, K]`; ignored ones count as 0 (mmseg)."""
    ignored = labels == IGNORED
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(ignored, 0, labels))
    return jnp.where(ignored, 0, loss).mean()
