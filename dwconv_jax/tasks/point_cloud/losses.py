"""Cross-entropy against labels smoothed as in P2P."""

import jax
import optax


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Cross-entropy against 1 - `smoothing` for the label and the rest shared by the other classes.

    (`optax.smooth_labels` shares it among all classes.)

    Args:
      logits: `[B, K]`.
      labels: int `[B]`.
      smoothing: in [0, 1).

    Returns:
      `[B]`.
    """
    num_classes = logits.shape[-1]
    over_all = smoothing * num_classes / max(1, num_classes - 1)
    one_hot = jax.nn.one_hot(labels, num_classes)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, over_all))
