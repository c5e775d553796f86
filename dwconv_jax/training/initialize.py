"""Starting from weights that exist: `config.init_from`."""

from etils import epath
from flax import nnx

from dwconv_jax.convert import load_torch
from dwconv_jax.convert.checkpoints import load_weights


def load_initial_weights(model: nnx.Module, path: str, *, strict: bool = False) -> None:
    """Loads a PyTorch file, converted weights or a training run into a model, in place.

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
    load = load_weights if source.is_dir() else load_torch
    load(model, source, strict=strict)
