"""Loads weights of any file into any model; a classifier's into the backbone of other models."""

import os
import re
from typing import Any, TypeVar

from etils import epath

from dwconv_jax.convert.checkpoints import load_weights, read_weights, variables
from dwconv_jax.convert.torch_files import read_state_dict
from dwconv_jax.convert.weights import load_torch, to_torch
from dwconv_jax.models import Model

# What a classifier and a backbone for dense prediction do not share, in PyTorch's names and ours.
_CLASSIFIER_ONLY = re.compile(r"(norm|head)[./]")
_DENSE_ONLY = re.compile(r"norm\d\.|output_norms/")

ModelT = TypeVar("ModelT", bound=Model)


def load_pretrained(model: ModelT, path: str | os.PathLike[str], *, strict: bool = True) -> ModelT:
    """Loads a whole model, or the backbone of one from the weights of a classifier, in place.

    A classifier has no norms for the outputs of a backbone: the model then keeps its own.

    Args:
      model: receives the weights.
      path: a file that `load_torch` reads, or a directory that `load_weights` reads.
      strict: False adapts what does not fit, as in `load_torch`.

    Returns:
      The same model.

    Raises:
      UserError: with every weight that does not fit.
    """
    in_orbax = epath.Path(path).is_dir()
    load = load_weights if in_orbax else load_torch
    backbone: Any = getattr(model, "backbone", None)
    if backbone is None:
        return load(model, path, strict=strict)
    found = read_weights(path) if in_orbax else read_state_dict(path)
    if any(name.startswith(("backbone.", "backbone/")) for name in found):
        return load(model, found, strict=strict)
    shared = {name: value for name, value in found.items() if not _CLASSIFIER_ONLY.match(name)}
    own: dict[str, Any] = variables(backbone) if in_orbax else to_torch(backbone)
    shared |= {name: own[name][...] for name in own if _DENSE_ONLY.match(name)}
    load(backbone, shared, strict=strict)
    return model
