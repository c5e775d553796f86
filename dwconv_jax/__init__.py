"""Local attention, depth-wise convolution and dynamic weights as one layer, for JAX and Flax."""

from typing import TYPE_CHECKING

from dwconv_jax import convert, hub, layers, linen, models, natten, ops
from dwconv_jax.errors import MissingPackageError
from dwconv_jax.hub import predict, preprocess, push_to_hub
from dwconv_jax.layers import DepthwiseConv, LocallyConnected
from dwconv_jax.models import create_model, list_models
from dwconv_jax.version import __version__

if TYPE_CHECKING:
    from dwconv_jax.inference.trained import TrainedModel

__all__ = [
    "DepthwiseConv",
    "LocallyConnected",
    "__version__",
    "convert",
    "create_model",
    "hub",
    "layers",
    "linen",
    "list_models",
    "load",
    "models",
    "natten",
    "ops",
    "predict",
    "preprocess",
    "push_to_hub",
]


def load(workdir: str, checkpoint: str = "latest") -> "TrainedModel":
    """Loads the trained model of a run, without its data set and optimizer state.

        trained = dwconv_jax.load("runs/digits", checkpoint="best")
        logits = trained.predict(trained.read_picture("seven.png"))  # [1, classes]
        trained.class_names[logits[0].argmax()]

    Args:
      workdir: of a run of `main.py`.
      checkpoint: "latest" or "best".

    Raises:
      MissingPackageError: if the packages for training are not installed.
      UserError: if files of the workdir are damaged, or `checkpoint` is neither of the two.
      FileNotFoundError: if the workdir holds no run, or not that checkpoint.
      CheckpointError: if no checkpoint is intact.
    """
    try:
        from dwconv_jax.inference.trained import load_trained
    except ImportError as error:
        raise MissingPackageError(
            f"dwconv_jax.load reads runs with the packages that train them, and {error.name} is "
            "missing: pip install 'dwconv_jax[train]'"
        ) from error
    return load_trained(workdir, checkpoint)
