"""Models as Orbax checkpoints of weights alone, and from the checkpoints of training runs."""

import logging
import os
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from orbax.checkpoint import v1 as ocp

from dwconv_jax.convert.adapt import adapt

_log = logging.getLogger(__name__)


def save_weights(path: str | os.PathLike[str], model: nnx.Module) -> None:
    """Writes a model's parameters and batch statistics as an Orbax checkpoint.

    Raises:
      ValueError: if something is there already.
    """
    directory = epath.Path(path).absolute()
    if directory.exists():
        raise ValueError(f"{directory} exists already; name a new directory")
    ocp.save(directory, _weights(model))


def load_weights(
    path: str | os.PathLike[str], model: nnx.Module, *, strict: bool = True
) -> nnx.Module:
    """Loads weights saved by `save_weights`, or those of a training run's newest checkpoint.

    Args:
      path: a directory written by `save_weights`, or a workdir of `main.py`.
      model: receives the weights, in place.
      strict: False keeps the model's own head where the number of classes differs and resizes
        relative position tables; what it did is logged.

    Returns:
      The same model.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      ValueError: with every weight that does not fit; the model is then unchanged.
    """
    found = {k: v for k, v in _flatten(_read(epath.Path(path).absolute())).items()}
    wanted = _flatten(_weights(model))
    problems = [f"missing {name}" for name in wanted.keys() - found.keys()]
    problems += [f"extra {name}" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if found[name].shape == wanted[name].shape:
            continue
        if strict:
            there, here = list(found[name].shape), list(wanted[name].shape)
            problems.append(f"misshapen {name}: {there}, the model has {here}")
            continue
        try:
            fitted, note = adapt(name.split("/", 1)[1], found[name], wanted[name].shape)
        except ValueError as error:
            problems.append(str(error))
            continue
        _log.info("%s: %s", path, note)
        found[name] = wanted[name] if fitted is None else fitted
    if problems:
        raise ValueError(f"{path} does not fit the model:\n  " + "\n  ".join(sorted(problems)))

    template = _weights(model)
    leaves = [found[_name(p)] for p, _ in jax.tree_util.tree_leaves_with_path(template)]
    loaded = jax.tree.unflatten(jax.tree.structure(template), leaves)
    nnx.update(model, nnx.State(loaded["params"]), nnx.State(loaded["batch_stats"]))
    return model


def _weights(model: nnx.Module) -> dict[str, Any]:
    return {
        "params": nnx.to_pure_dict(nnx.state(model, nnx.Param)),
        "batch_stats": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
    }


def _read(directory: epath.Path) -> dict[str, Any]:
    if ocp.is_orbax_checkpoint(directory):
        return ocp.load(directory)
    run = directory / "checkpoints"
    if not run.exists():
        raise FileNotFoundError(
            f"{directory} is neither a checkpoint of weights nor the workdir of a training run"
        )
    with ocp.training.Checkpointer(run) as checkpointer:
        if checkpointer.latest is None:
            raise FileNotFoundError(f"{run} holds no finished checkpoint")
        state = checkpointer.load(checkpointer.latest.step)
    return {"params": state["params"], "batch_stats": state["batch_stats"]}


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _flatten(tree: dict[str, Any]) -> dict[str, np.ndarray]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
