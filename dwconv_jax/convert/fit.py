"""Checks weights against the shapes of a model, and adapts what can be adapted."""

import logging
import math
from collections.abc import Container, Iterable, Mapping

import numpy as np

from dwconv_jax.convert.bicubic import resize_bicubic
from dwconv_jax.errors import UserError

Shape = tuple[int, ...]
Weights = Mapping[str, np.ndarray]

_log = logging.getLogger(__name__)
# A file for another model has hundreds of misfits; the first tell enough.
_MAX_LISTED = 20


def fit(
    found: Weights,
    shapes: Mapping[str, Shape],
    *,
    head: Container[str],
    origin: str,
    strict: bool,
    skip_head: bool = False,
) -> dict[str, np.ndarray]:
    """Checks that weights are those of a model.

    Args:
      found: weights by name, in PyTorch's names or ours.
      shapes: what the model has under the same names.
      head: names of the layers whose width is the number of classes.
      origin: where the weights come from, for messages.
      strict: False leaves out a head that the model lacks or has in another shape, resizes
        relative position tables of other windows, and sums the first convolution over the colors
        for a model of gray images; what it did is logged.
      skip_head: leaves out the head in any case.

    Returns:
      Weights of the model's shapes: all that it has, except for a head that was left out.

    Raises:
      ValueError: with every missing, extra and misshapen name in one message.
    """
    if skip_head or (not strict and _heads_differ(found, shapes, head)):
        own = ", ".join(f"{name} {list(found[name].shape)}" for name in found if name in head)
        _log.info("%s: left out the head (%s); the model keeps its own", origin, own or "none")
        found = {name: value for name, value in found.items() if name not in head}
        shapes = {name: shape for name, shape in shapes.items() if name not in head}
    if not strict:
        found = {name: _adapted(name, v, shapes.get(name), origin) for name, v in found.items()}

    misfits = {
        "missing": [f"{name} {list(shape)}" for name, shape in shapes.items() if name not in found],
        "extra": [f"{name} {list(v.shape)}" for name, v in found.items() if name not in shapes],
        "misshapen": [
            f"{name} {list(found[name].shape)}, the model has {list(shape)}"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ],
    }
    if any(misfits.values()):
        raise UserError(f"{origin} does not fit the model: {_summary(misfits, head)}")
    return dict(found)


def _heads_differ(found: Weights, shapes: Mapping[str, Shape], head: Container[str]) -> bool:
    return any(name in head and value.shape != shapes.get(name) for name, value in found.items())


def _adapted(name: str, value: np.ndarray, shape: Shape | None, origin: str) -> np.ndarray:
    """A weight for other windows, or of a convolution of color images for gray ones."""
    if value.ndim == 4 and value.shape[1] == 3 and shape == (len(value), 1, *value.shape[2:]):
        # What the convolution gives on a gray image whose three channels are equal.
        _log.info("%s: summed %s over the colors", origin, name)
        return value.sum(1, keepdims=True)
    return _resized(name, value, shape, origin)


def _resized(name: str, value: np.ndarray, shape: Shape | None, origin: str) -> np.ndarray:
    """Resizes the relative position table of other square windows; returns others as they are."""
    is_table = name.endswith(("relative_position_bias_table", "position_bias/table"))
    if not is_table or shape is None or value.shape == shape or value.ndim != len(shape):
        return value
    if value.ndim == 3 and len(value) == shape[0]:  # MaxViT's, [heads, rows, columns]
        _log.info("%s: resized %s from %s to %s (bicubic)", origin, name, value.shape, shape)
        return resize_bicubic(value.transpose(1, 2, 0), (shape[1], shape[2])).transpose(2, 0, 1)
    if value.shape[1:] != shape[1:]:
        return value
    old, new = math.isqrt(len(value)), math.isqrt(shape[0])
    if (old**2, new**2) != (len(value), shape[0]):
        return value
    _log.info("%s: resized %s from %dx%d to %dx%d (bicubic)", origin, name, old, old, new, new)
    return resize_bicubic(value.reshape(old, old, -1), (new, new)).reshape(shape)


def _summary(misfits: Mapping[str, list[str]], head: Container[str]) -> str:
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in misfits.items() if names)
    lines = [line for kind, names in misfits.items() for line in _listed(kind, names)]
    if all(name in head for names in misfits.values() for name in names):
        lines.append("only the head differs: strict=False keeps the model's own")
    return "\n  ".join([counts, *lines])


def _listed(kind: str, names: list[str]) -> Iterable[str]:
    yield from (f"{kind} {name}" for name in names[:_MAX_LISTED])
    if len(names) > _MAX_LISTED:
        yield f"... and {len(names) - _MAX_LISTED} more {kind}"
