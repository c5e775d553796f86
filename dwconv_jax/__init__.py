"""Local attention, depth-wise convolution and dynamic weights as one layer, for JAX and Flax."""

import importlib
from typing import TYPE_CHECKING, Any

from dwconv_jax.errors import MissingPackageError
from dwconv_jax.version import __version__

if TYPE_CHECKING:
    from dwconv_jax import convert, hub, layers, linen, models, natten, ops
    from dwconv_jax.host_memory import reuse_host_memory
    from dwconv_jax.hub import predict, preprocess, push_to_hub
    from dwconv_jax.inference.trained import TrainedModel
    from dwconv_jax.layers import DepthwiseConv, LocallyConnected
    from dwconv_jax.models import create_model, list_models

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
    "reuse_host_memory",
]


# Imported when they are asked for, so that `dwconv-jax --help` does not wait for JAX.
_MODULES = ("convert", "hub", "layers", "linen", "models", "natten", "ops")
_HOMES = {
    "DepthwiseConv": "layers",
    "LocallyConnected": "layers",
    "create_model": "models",
    "list_models": "models",
    "predict": "hub",
    "preprocess": "hub",
    "push_to_hub": "hub",
    "reuse_host_memory": "host_memory",
}

if not TYPE_CHECKING:  # which would take every name for known

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"dwconv_jax.{name}")
        if name in _HOMES:
            return getattr(importlib.import_module(f"dwconv_jax.{_HOMES[name]}"), name)
        raise AttributeError(f"module 'dwconv_jax' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__


def load(workdir: str, checkpoint: str = "latest") -> "TrainedModel":
    """Loads the trained model of a run, without its data set and optimizer state.

        trained = dwconv_jax.load("runs/digits", checkpoint="best")
        logits = trained.predict(trained.read_picture("seven.png"))  # [1, classes]
        trained.class_names[logits[0].argmax()]

    Args:
      workdir: of a run.
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
            "missing: pip install 'dwconv-jax[train]'"
        ) from error
    return load_trained(workdir, checkpoint)
