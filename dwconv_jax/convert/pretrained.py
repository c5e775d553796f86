"""Models for dense prediction from the weights of a classifier."""

import os
import re
from typing import Any, TypeVar

from etils import epath

from dwconv_jax.convert.checkpoints import load_weights, read_weights, variables
from dwconv_jax.convert.torch_files import read_state_dict
from dwconv_jax.convert.weights import load_torch, to_torch
from dwconv_jax.models import CascadeMaskRCNN, UPerNet

# What one of the two has alone, in PyTorch's names and in ours.
_CLASSIFIER_ONLY = re.compile(r"(norm|head)[./]")
_DENSE_ONLY = re.compile(r"norm\d\.|output_norms/")

TaskModelT = TypeVar("TaskModelT", bound=UPerNet | CascadeMaskRCNN)


def load_task_model(
    model: TaskModelT, path: str | os.PathLike[str], *, strict: bool = True
) -> TaskModelT:
    """Loads a whole model, or its backbone where `path` holds the weights of a classifier.

    Norms of the backbone's outputs, which a classifier does not have, then stay as they are.

    Args:
      model: receives the weights, in place.
      path: a file that `load_torch` reads, or a directory that `load_weights` reads.
      strict: False makes fit what can be, as in `load_torch`.

    Returns:
      The same model.

    Raises:
      ValueError: with every weight that does not fit.
    """
    in_orbax = epath.Path(path).is_dir()
    found = read_weights(path) if in_orbax else read_state_dict(path)
    load = load_weights if in_orbax else load_torch
    if any(name.startswith(("backbone.", "backbone/")) for name in found):
        return load(model, found, strict=strict)
    shared = {name: value for name, value in found.items() if not _CLASSIFIER_ONLY.match(name)}
    own: dict[str, Any] = variables(model.backbone) if in_orbax else to_torch(model.backbone)
    shared |= {name: own[name][...] for name in own if _DENSE_ONLY.match(name)}
    load(model.backbone, shared, strict=strict)
    return model
