"""PyTorch weights into a model and out of it."""

import logging
import os
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np

from dwconv_jax.convert.adapt import adapt
from dwconv_jax.convert.layout import Buffer, Entry, layout
from dwconv_jax.convert.torch_files import read_state_dict
from dwconv_jax.layers.locally_connected import check_choice
from dwconv_jax.models import Classifier

StateDict = Mapping[str, np.ndarray]

_log = logging.getLogger(__name__)


def load_torch(
    model: Classifier,
    source: str | os.PathLike[str] | StateDict,
    *,
    strict: bool = True,
    head: Literal["load", "skip"] = "load",
) -> Classifier:
    """Loads the authors' (or Swin's official) PyTorch weights into a model, in place.

    Args:
      model: the classifier that the weights belong to.
      source: a state dict, or a `.pth`, `.pt`, `.bin` or `.safetensors` file (see
        `read_state_dict` for the layouts that it knows).
      strict: False makes fit what can be: keeps the model's own head where the number of classes
        differs and resizes relative position tables; what it did is logged.
      head: "skip" always leaves the model's own head.

    Returns:
      The same model.

    Raises:
      ValueError: with every missing, extra and misshapen key in one message; the model is then
        unchanged.
    """
    check_choice("head", head, ("load", "skip"))
    if isinstance(source, Mapping):
        state_dict, origin = source, "the state dict"
    else:
        state_dict, origin = read_state_dict(source), str(source)
    wanted = layout(model)
    if head == "skip":
        wanted = [item for item in wanted if not item.name.startswith("head.")]
        state_dict = {k: v for k, v in state_dict.items() if not k.startswith("head.")}

    found = {name: _to_numpy(tensor) for name, tensor in state_dict.items()}
    problems, notes = _reconcile(wanted, found, strict)
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"{origin} does not fit the model:\n  {listed}{_hint(problems)}")
    for note in notes:
        _log.info("%s: %s", origin, note)
    for item in wanted:
        if isinstance(item, Entry) and item.name in found:
            value = item.from_torch(found[item.name])
            item.variable[...] = jnp.asarray(value, item.variable.dtype)
    return model


def to_torch(model: Classifier, image_size: int = 224) -> dict[str, np.ndarray]:
    """The model's weights as a state dict that the authors' code loads; inverse of `load_torch`.

    Args:
      model: a classifier with one of the four named mixers.
      image_size: the size that a Swin state dict is for: it holds attention masks.

    Returns:
      PyTorch's names to arrays in PyTorch's layout; batch norms count 0 batches, which PyTorch
      does not use at a fixed momentum.

    Raises:
      ValueError: for a mixer that the authors' code does not have.
    """
    return {
        item.name: item.value
        if isinstance(item, Buffer)
        else np.ascontiguousarray(item.to_torch(np.asarray(item.variable[...])))
        for item in layout(model, image_size)
    }


def _to_numpy(tensor: np.ndarray) -> np.ndarray:
    """Arrays as they are, and PyTorch tensors without importing PyTorch."""
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def _reconcile(
    wanted: list[Entry | Buffer], found: dict[str, np.ndarray], strict: bool
) -> tuple[list[str], list[str]]:
    """Compares the tensors with the model; changes `found` where `strict=False` makes them fit.

    Returns:
      What is wrong, and what was changed.
    """
    problems, notes = [], []
    for item in wanted:
        value = found.get(item.name)
        if isinstance(item, Entry):
            if value is None:
                problems.append(f"missing {item.name} {list(item.shape)}")
            elif value.shape != item.shape:
                if strict:
                    there, here = list(value.shape), list(item.shape)
                    problems.append(f"misshapen {item.name}: {there}, the model has {here}")
                    continue
                try:
                    fitted, note = adapt(item.name, value, item.shape)
                except ValueError as error:
                    problems.append(str(error))
                    continue
                notes.append(note)
                if fitted is None:
                    del found[item.name]
                else:
                    found[item.name] = fitted
        elif item.checked and value is not None and not np.array_equal(value, item.value):
            if strict:
                problems.append(f"another constant in {item.name} than this window size has")
    # A checkpoint for another image size has masks where this one has none.
    known = {item.name for item in wanted}
    extra = [k for k in found if k not in known and not k.endswith(".attn_mask")]
    return problems + [f"extra {name} {list(found[name].shape)}" for name in extra], notes


def _hint(problems: list[str]) -> str:
    if all(" head." in problem for problem in problems):
        return "\nonly the head differs: head='skip' keeps the model's own"
    return ""
