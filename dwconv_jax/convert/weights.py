"""PyTorch weights into a model and out of it."""

import os
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar

import numpy as np

from dwconv_jax.convert.fit import fit
from dwconv_jax.convert.torch_files import read_state_dict
from dwconv_jax.errors import UserError
from dwconv_jax.models import DenseBackbone, Model
from dwconv_jax.models.family import TorchLayout
from dwconv_jax.models.lora import check_merged
from dwconv_jax.models.torch_layout import Buffer, Entry
from dwconv_jax.ops.checks import check_choice

# Buffers; a checkpoint for another image size has masks where the model has none.
_COMPUTED = (
    "attn_mask", "relative_coords_table", "relative_position_index", "num_batches_tracked"
)  # fmt: skip

ModelT = TypeVar("ModelT", bound=Model | DenseBackbone)


def load_torch(
    model: ModelT,
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    strict: bool = True,
    head: Literal["load", "skip"] = "load",
) -> ModelT:
    """Loads PyTorch weights into a model, in place.

    The names tell whose they are, where a family has several layouts (timm's and the authors').

    Args:
      model: what the weights belong to, with or without a head; may be abstract (`nnx.eval_shape`).
      source: a state dict of arrays or PyTorch tensors, or a `.pth`, `.pt`, `.bin` or
        `.safetensors` file (`read_state_dict` lists the layouts that it knows).
      strict: False adapts what does not fit: keeps the model's own head where the number of classes
        differs, resizes relative position tables, and sums the first convolution over the colors
        for a model of gray images; it logs what it did.
      head: "skip" always keeps the model's own head.

    Returns:
      The same model.

    Raises:
      UserError: with every missing, extra and misshapen key in one message; the model is then
        unchanged.
    """
    check_choice("head", head, ("load", "skip"))
    if isinstance(source, Mapping):
        found, origin = {name: _to_numpy(tensor) for name, tensor in source.items()}, "state dict"
    else:
        found, origin = read_state_dict(source), str(source)
    items = list(model.torch_layout(layout=find_layout(model, found)))
    entries = {item.name: item for item in items if isinstance(item, Entry)}
    buffers = {item.name: item for item in items if isinstance(item, Buffer)}
    weights = {name: v for name, v in found.items() if not name.endswith(_COMPUTED)}
    fitted = fit(
        weights,
        {name: entry.shape for name, entry in entries.items()},
        head=getattr(model, "HEAD", ()),
        origin=origin,
        strict=strict,
        skip_head=head == "skip",
    )
    _check_constants(buffers, found, origin)
    for name, tensor in fitted.items():
        entries[name].write(tensor)
    return model


def find_layout(model: Model | DenseBackbone, names: Collection[str]) -> str | None:
    """The layout of PyTorch checkpoints that has most of the names of a state dict, if any has."""
    layouts = _layouts(model)
    if len(layouts) < 2:
        return next(iter(layouts), None)
    return max(
        layouts, key=lambda layout: sum(i.name in names for i in model.torch_layout(layout=layout))
    )


def to_torch(
    model: Model | DenseBackbone, image_size: int = 224, layout: str | None = None
) -> dict[str, np.ndarray]:
    """The model's weights as a state dict for PyTorch code; inverse of `load_torch`.

    Args:
      model: a model whose family has a PyTorch layout.
      image_size: what a Swin classifier is for: its state dict holds attention masks of that size.
      layout: "timm" or "official", where a family has both; None for its first.

    Returns:
      PyTorch's names to arrays in PyTorch's layout; batch norms count 0 batches, which PyTorch
      does not use at a fixed momentum.

    Raises:
      UserError: for a mixer that the authors' code does not have, or low-rank products that
        `merge_lora` has not merged.
    """
    check_merged(model, "to_torch")
    if layout is not None:
        check_choice("layout", layout, tuple(_layouts(model)))
    return {item.name: item.read() for item in list(model.torch_layout(image_size, layout))}


def _layouts(model: Model | DenseBackbone) -> dict[str, TorchLayout]:
    backbone: Any = getattr(model, "backbone", model)
    return dict(backbone.torch_layouts)


def _to_numpy(tensor: Any) -> np.ndarray:
    """Arrays as they are, and PyTorch tensors (bfloat16 ones too) without importing PyTorch."""
    if hasattr(tensor, "detach"):
        return tensor.detach().cpu().float().numpy()
    return np.asarray(tensor)


def _check_constants(
    buffers: Mapping[str, Buffer], found: Mapping[str, np.ndarray], origin: str
) -> None:
    """Equal shapes with other values would mean that the rows of a table are in another order."""
    for name, buffer in buffers.items():
        value = found.get(name)
        if value is None or not buffer.checked or value.shape != buffer.value.shape:
            continue
        if not np.array_equal(value, buffer.value):
            raise UserError(f"{origin}: {name} orders the position table otherwise than Swin")
