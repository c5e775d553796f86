"""Initialization from existing weights: `config.init_from`."""

from typing import Any

from etils import epath

from dwconv_jax.convert.pretrained import load_pretrained
from dwconv_jax.files import absolute_path


def load_initial_weights(model: Any, path: str, *, strict: bool = False) -> None:
    """Loads a PyTorch file, converted weights or a training run into a model, in place.

    Models for dense prediction also accept the weights of a classifier for their backbone.

    Args:
      model: receives the weights.
      path: a file that `load_torch` reads, or a directory that `load_weights` reads.
      strict: False keeps the head of the model if the number of classes differs, and resizes
        relative position tables of other windows; both are logged.

    Raises:
      FileNotFoundError: if `path` does not exist.
      UserError: if the weights do not fit the model.
    """
    load_pretrained(model, find_initial_weights(path), strict=strict)


def find_initial_weights(path: str) -> epath.Path:
    """Returns the absolute path of `config.init_from`.

    Raises:
      FileNotFoundError: if it does not exist.
    """
    source = absolute_path(path, "config.init_from")
    if not source.exists():
        raise FileNotFoundError(f"config.init_from={path!r} does not exist")
    return source
