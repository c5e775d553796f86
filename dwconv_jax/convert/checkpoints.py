"""Weights as Orbax checkpoints, and weights from the checkpoints of training runs."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from orbax.checkpoint import v1 as ocp

from dwconv_jax.convert.checksums import find_damage, has_checksums, write_checksums
from dwconv_jax.convert.fit import fit
from dwconv_jax.convert.intact import CheckpointError, first_reason, newest_intact
from dwconv_jax.convert.variables import variables
from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path

# The weights in a checkpoint, under the names that training runs use.
_PARTS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}

ModelT = TypeVar("ModelT", bound=nnx.Module)


def save_weights(path: str | os.PathLike[str], model: nnx.Module) -> None:
    """Writes the parameters and batch statistics of a model atomically as an Orbax checkpoint.

    Raises:
      FileExistsError: if `path` exists.
      CheckpointError: if it cannot be written, for example on a full disk; there is then nothing at
        `path`. Threads of TensorStore that still write can leave a hidden directory beside it,
        which the next attempt replaces.
    """
    directory = absolute_path(path, "the path of a checkpoint")
    if directory.exists():
        raise FileExistsError(f"{directory} exists already; name a new directory")
    parts = {part: nnx.to_pure_dict(nnx.state(model, kind)) for part, kind in _PARTS.items()}
    # Orbax would leave an unfinished directory beside the path.
    folder = directory.with_name(f".{directory.name}.unfinished")
    try:
        folder.rmtree(missing_ok=True)
        folder.mkdir(parents=True)
        ocp.save(folder / "weights", parts)
        write_checksums(folder / "weights")
        (folder / "weights").rename(directory)
    except Exception as error:  # Orbax raises almost anything.
        raise CheckpointError(f"cannot write {directory}: {first_reason(error)}") from error
    finally:
        folder.rmtree(missing_ok=True)


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads weights saved by `save_weights`, or those of a checkpoint of a training run.

    Of a run with `config.ema_decay` they are the averages; of one with `config.lora_rank`, kernels
    with their low-rank products added. Optimizer state is not read.

    Args:
      path: a directory written by `save_weights`, the workdir of a run (its newest intact
        checkpoint is read; damaged ones are skipped with a warning), or one of the checkpoints in a
        workdir.

    Returns:
      Arrays by the path of their variable in the model, such as "head/kernel".

    Raises:
      FileNotFoundError: if there is no checkpoint.
      CheckpointError: if no checkpoint of the workdir is intact.
      UserError: if the checkpoint is damaged, or does not hold weights.
    """
    return read_arrays(_find(absolute_path(path, "the path of a checkpoint")))


def read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
    """Reads the weights in the directory of a checkpoint whose checksums have been compared.

    Raises:
      UserError: if it is damaged, or does not hold weights.
    """
    try:
        saved = ocp.metadata(path).metadata
        averages = saved.get("ema")
        # NumPy arrays as templates: the devices that wrote a checkpoint may not be here.
        parts = {part: jax.tree.map(_empty, (averages or saved)[part]) for part in _PARTS}
        context = ocp.Context()
        context.pytree.loading.partial_load = True  # without the optimizer's state
        with context:
            loaded = ocp.load(path, {"ema": parts} if averages else parts)
        loaded = loaded["ema"] if averages else loaded
    except Exception as error:  # Orbax raises almost anything.
        raise UserError(f"{path} is damaged, or no checkpoint of weights") from error
    return _without_lora(
        {
            _name(path): leaf
            for part in loaded.values()
            for path, leaf in jax.tree_util.tree_leaves_with_path(part)
        }
    )


def _without_lora(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds the products of low-rank adaptation to their kernels, as `merge_lora` does."""
    merged = {name: array for name, array in arrays.items() if "/lora/" not in name}
    for name, first in arrays.items():
        layer, is_first, _ = name.partition("/lora/lora_a")
        if is_first:
            kernel = f"{layer}/kernel"
            merged[kernel] = merged[kernel] + first @ arrays[f"{layer}/lora/lora_b"]
    return merged


def load_weights(
    model: ModelT,
    source: str | os.PathLike[str] | Mapping[str, np.ndarray],
    *,
    strict: bool = True,
) -> ModelT:
    """Loads weights into a model, in place.

    Args:
      model: receives the weights; may be abstract (`nnx.eval_shape`).
      source: what `read_weights` returns, or a path to read.
      strict: False adapts weights where possible, as in `load_torch`.

    Returns:
      The same model.

    Raises:
      FileNotFoundError: if there is no checkpoint.
      UserError: listing every weight that does not fit; the model is then unchanged.
    """
    if isinstance(source, Mapping):
        found, origin = source, "the checkpoint"
    else:
        found, origin = read_weights(source), str(source)
    wanted = variables(model)
    shapes = {name: variable.shape for name, variable in wanted.items()}
    for name, value in fit(
        found, shapes, head=getattr(model, "HEAD", ()), origin=origin, strict=strict
    ).items():
        wanted[name].set_value(jnp.asarray(value, wanted[name].dtype))
    return model


def _find(directory: epath.Path) -> epath.Path:
    """Returns the checkpoint that a path means, after comparing its checksums."""
    run = directory / "checkpoints"
    if run.exists():
        return newest_intact(run)
    if not directory.exists():
        raise FileNotFoundError(f"{directory} does not exist")
    # Other programs, and older versions, write weights without checksums.
    if has_checksums(directory) and (damage := find_damage(directory)):
        raise UserError(f"{directory} is damaged, or no checkpoint of weights: {damage}")
    return directory


def _empty(saved: Any) -> np.ndarray:
    return np.empty(saved.shape, saved.dtype)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
