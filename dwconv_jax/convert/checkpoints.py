"""Models as Orbax checkpoints of weights alone, and from the checkpoints of training runs."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from orbax.checkpoint import v1 as ocp

from dwconv_jax.convert.fit import fit

# The parts of a checkpoint that are weights, under the names that training runs use.
_PARTS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}

ModelT = TypeVar("ModelT", bound=nnx.Module)


def save_weights(path: str | os.PathLike[str], model: nnx.Module) -> None:
    """Writes a model's parameters and batch statistics as an Orbax checkpoint, whole or not at all.

    Raises:
      FileExistsError: if something is there already.
    """
    directory = epath.Path(path).absolute()
    if directory.exists():
        raise FileExistsError(f"{directory} exists already; name a new directory")
    ocp.save(
        directory,
        {part: nnx.to_pure_dict(nnx.state(model, kind)) for part, kind in _PARTS.items()},
    )


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the weights saved by `save_weights`, or those of a training run's newest checkpoint.

    Args:
      path: a directory written by `save_weights`, or a workdir of `main.py`.

    Returns:
      Arrays by the path of their variable in the model, such as "head/kernel".

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: if it is damaged, or not one of weights.
    """
    checkpoint = _find(epath.Path(path).absolute())
    try:
        saved = ocp.metadata(checkpoint).metadata
        # NumPy arrays as templates: the devices that wrote a checkpoint may not be here.
        template = {part: jax.tree.map(_empty, saved[part]) for part in _PARTS}
        context = ocp.Context()
        context.pytree.loading.partial_load = True  # without the optimiser's state
        with context:
            loaded = ocp.load(checkpoint, template)
    except Exception as error:  # Orbax raises almost anything.
        raise ValueError(f"{checkpoint} is damaged, or no checkpoint of weights") from error
    return {
        _name(path): leaf
        for part in loaded.values()
        for path, leaf in jax.tree_util.tree_leaves_with_path(part)
    }


def load_weights(
    model: ModelT,
    source: str | os.PathLike[str] | Mapping[str, np.ndarray],
    *,
    strict: bool = True,
) -> ModelT:
    """Loads weights into a model, in place.

    Args:
      model: receives the weights; may be abstract (`nnx.eval_shape`).
      source: what `read_weights` returns, or a path that it reads.
      strict: False makes fit what can be, as in `load_torch`.

    Returns:
      The same model.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: with every weight that does not fit; the model is then unchanged.
    """
    from_memory = isinstance(source, Mapping)
    found = source if from_memory else read_weights(source)
    origin = "the checkpoint" if from_memory else str(source)
    variables = {
        "/".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, tuple(_PARTS.values()))
    }
    shapes = {name: variable.shape for name, variable in variables.items()}
    for name, value in fit(found, shapes, origin=origin, strict=strict).items():
        variables[name].set_value(jnp.asarray(value, variables[name].dtype))
    return model


def _find(directory: epath.Path) -> epath.Path:
    if ocp.is_orbax_checkpoint(directory):
        return directory
    run = directory / "checkpoints"
    steps = [p for p in run.iterdir() if p.name.isdigit()] if run.exists() else []
    if not steps:
        raise FileNotFoundError(
            f"{directory} is neither a checkpoint of weights nor the workdir of a training run "
            "that has saved one"
        )
    return max(steps, key=lambda step: int(step.name))


def _empty(saved: Any) -> np.ndarray:
    return np.empty(saved.shape, saved.dtype)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
