"""Starting from weights that exist: `config.init_from`."""

from etils import epath
from flax import nnx

from dwconv_jax.convert import load_torch
from dwconv_jax.convert.checkpoints import load_weights


def load_initial_weights(model: nnx.Module, path: str) -> None:
    """Loads a PyTorch file, converted weights or a training run into a model, in place.

    A head of another number of classes stays as initialised, and relative position tables of other
    windows are resized; both are logged.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
      ValueError: if the weights are not the model's.
    """
    source = epath.Path(path)
    if not source.exists():
        raise FileNotFoundError(f"config.init_from={path!r} does not exist")
    if source.is_dir():
        load_weights(source, model, strict=False)
    else:
        load_torch(model, source, strict=False)
