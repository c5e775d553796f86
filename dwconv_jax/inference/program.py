"""A model as one serialised program for CPU, CUDA and TPU, its weights inside."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from dwconv_jax.models.fold import fold_batch_norms

PLATFORMS = ("cpu", "cuda", "tpu")


def export_model(
    model: nnx.Module,
    image_shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
    """Traces a model for any batch size, with its batch norms folded and its weights inside.

    The program needs JAX and flatbuffers, by which JAX reads it; neither this package nor Flax, nor
    the kernels compiled for this machine::

        exported = jax.export.deserialize(pathlib.Path("model.jaxexport").read_bytes())
        logits = exported.call(pixels)  # uint8 [B, H, W, C]

    Args:
      model: takes normalised images `[B, H, W, C]` and returns logits.
      image_shape: `(H, W, C)`.
      mean: subtracted from pixels in units of 0..1, for each channel or for all.
      std: divides them.
      platforms: what it shall run on.

    Returns:
      A program from uint8 `[B, H, W, C]` to what the model returns; `.serialize()` gives its bytes.
    """
    folded = fold_batch_norms(model)

    @jax.jit
    def predict(pixels: jax.Array) -> jax.Array:
        mean_, std_ = (jnp.asarray(v, jnp.float32)[None, None, None] for v in (mean, std))
        return folded((pixels.astype(jnp.float32) / 255 - mean_) / std_, train=False)

    (batch,) = export.symbolic_shape("batch")
    pixels = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
    return export.export(predict, platforms=platforms)(pixels)
