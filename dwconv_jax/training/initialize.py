"""Starting from weights that exist: `config.init_from`."""

from typing import Any

from etils import epath

from dwconv_jax.convert.pretrained import load_pretrained


def load_initial_weights(model: Any, path: str, *, strict: bool = False) -> None:
    """Loads a PyTorch file, converted weights or a training run into a model, in place.

    Models for dense prediction also take a classifier's weights, for their backbone.

    Args:
      model: receives the weights.
      path: a file that `load_torch` reads, or a directory that `load_weights` reads.
      strict: False keeps the model's own head where the number of classes differs, and resizes
        relative position tables of other windows; both are logged.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
      ValueError: if the weights are not the model's.
    """
    source = epath.Path(path)
    if not source.exists():
        raise FileNotFoundError(f"config.init_from={path!r} does not exist")
    load_pretrained(model, source, strict=strict)
