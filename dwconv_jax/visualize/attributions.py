"""Which places of an image speak for a class: Grad-CAM at the map that the head averages."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from dwconv_jax.models.classifier import Classifier
from dwconv_jax.visualize.panels import as_picture, grid, show_picture

_STRONGEST = 0.85  # opacity of the strongest evidence


def class_evidence(model: Classifier, images: jax.Array, classes: jax.Array) -> np.ndarray:
    """How much each position of the last map adds to the logit of a class.

    The gradient of the logit with respect to the map that the head averages, times the map, summed
    over channels (Selvaraju et al., "Grad-CAM", ICCV 2017, without the rectification). If the head
    is linear, the mean over the positions is the logit without its bias.

    Args:
      model: a classifier with a head.
      images: `[B, H, W, C]`.
      classes: int `[B]`, one class for each image.

    Returns:
      float32 `[B, h, w]`, positive for the class and negative against it.

    Raises:
      ValueError: if the model is no classifier, or has no head.
    """
    if not isinstance(model, Classifier) or model.head is None:
        raise ValueError(f"model must be a classifier with a head, got {type(model).__name__}")
    graph, state = nnx.split(model)

    @jax.jit
    def evidence(state: nnx.State, images: jax.Array, classes: jax.Array) -> jax.Array:
        model = nnx.merge(graph, state)
        last = model.last_map(images, train=False)

        def logits_of_classes(last: jax.Array) -> jax.Array:
            logits = model.classify(last, train=False)
            return jnp.take_along_axis(logits, classes[:, None], 1).sum()

        gradient = jax.grad(logits_of_classes)(last)
        positions = last.shape[1] * last.shape[2]
        return positions * (gradient * last).astype(jnp.float32).sum(-1)

    return np.asarray(evidence(state, images, jnp.asarray(classes)))


def attributions(
    model: Classifier,
    images: jax.Array,
    *,
    top: int = 2,
    class_names: Sequence[str] | None = None,
    pictures: np.ndarray | None = None,
) -> Figure:
    """Draws what speaks for and against the classes that a model finds most probable.

    A row shows an image, and over it the `class_evidence` for each of its best classes: red for the
    class, blue against it.

    Args:
      model: a classifier with a head.
      images: `[B, H, W, C]`.
      top: how many classes of each image to draw.
      class_names: of all classes; numbers by default.
      pictures: uint8 `[B, H, W, 3]`, drawn in place of `images`.

    Raises:
      ValueError: if the model is no classifier, or has no head.
    """
    graph, state = nnx.split(model)
    logits = jax.jit(lambda state, x: nnx.merge(graph, state)(x, train=False))(state, images)
    best = np.argsort(-np.asarray(logits), axis=-1)[:, :top]
    fields = [
        _on_pixels(class_evidence(model, images, classes), images.shape[1:3]) for classes in best.T
    ]
    shown = np.asarray(images) if pictures is None else pictures
    figure, axes = grid(len(images), 1 + best.shape[1], width=1.9, height=2.1)
    for i, row in enumerate(axes):
        show_picture(row[0], shown[i])
        gray = as_picture(shown[i])
        gray = gray if gray.ndim == 2 else gray.mean(-1)
        largest = max(np.abs(field[i]).max() for field in fields) or 1.0
        for panel, field, k in zip(row[1:], fields, best[i], strict=True):
            panel.imshow(gray, cmap="gray", vmin=0, vmax=1.4)
            strength = _STRONGEST * np.abs(field[i]) / largest
            colors = dict(cmap="RdBu_r", vmin=-largest, vmax=largest)
            panel.imshow(field[i], alpha=strength, **colors)
            name = str(k) if class_names is None else class_names[k]
            panel.set_title(name if len(name) <= 18 else name[:17] + "…", size=9)
    figure.suptitle("What speaks for a class (red) and against it (blue)", size=11)
    return figure


def _on_pixels(fields: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Enlarges maps `[B, h, w]`, bilinear, to images of a size that was padded to whole strides."""
    strides = [-(-pixels // cells) for pixels, cells in zip(size, fields.shape[1:], strict=True)]
    whole = [n * stride for n, stride in zip(fields.shape[1:], strides, strict=True)]
    enlarged = jax.image.resize(fields, (len(fields), *whole), "bilinear")
    return np.asarray(enlarged)[:, : size[0], : size[1]]
