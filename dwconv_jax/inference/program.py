"""A model as one serialized program for CPU, CUDA and TPU, with its weights inside."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from dwconv_jax.models.fold import fold_batch_norms

PLATFORMS = ("cpu", "cuda", "tpu")
Program = Callable[[np.ndarray], Any]  # from uint8 `[B, H, W, C]`


def export_model(
    model: nnx.Module,
    image_shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
    """Traces a model for any batch size, with its batch norms folded and its weights inside.

    The program runs with JAX and flatbuffers alone, without this package, Flax or kernels compiled
    for this machine::

        exported = jax.export.deserialize(pathlib.Path("model.jaxexport").read_bytes())
        logits = exported.call(pixels)  # uint8 [B, H, W, C]

    Args:
      model: takes normalized images `[B, H, W, C]` and returns logits.
      image_shape: `(H, W, C)`.
      mean: subtracted from pixels in 0..1; one number, or one per channel.
      std: divides them; likewise.
      platforms: that the program runs on.

    Returns:
      A program from uint8 `[B, H, W, C]` to what the model returns; `.serialize()` gives its bytes.
    """
    predict = from_pixels(fold_batch_norms(model), mean=mean, std=std)
    return export.export(jax.jit(predict), platforms=platforms)(any_batch(image_shape))


def from_pixels(
    model: nnx.Module, *, mean: Sequence[float], std: Sequence[float]
) -> Callable[[jax.Array], jax.Array]:
    """Puts the normalization of uint8 pixels before a model; see `export_model`."""

    def predict(pixels: jax.Array) -> jax.Array:
        mean_, std_ = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (mean, std))
        return model((pixels.astype(jnp.float32) / 255 - mean_) / std_, train=False)

    return predict


def any_batch(image_shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    """Describes uint8 pixels `[batch, H, W, C]` of a symbolic batch size."""
    (batch,) = export.symbolic_shape("batch")
    return jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
