"""Loads weights of any file into any model; a classifier's into the backbone of other models."""

import os
import re
from typing import Any, TypeVar

import numpy as np
from etils import epath

from dwconv_jax.convert.checkpoints import load_weights, read_weights
from dwconv_jax.convert.torch_files import read_state_dict
from dwconv_jax.convert.variables import variables
from dwconv_jax.convert.weights import find_layout, load_torch
from dwconv_jax.models import Classifier, Model
from dwconv_jax.models.torch_layout import Entry

# Our names of what a classifier has beyond a backbone.
_CLASSIFIER_ONLY = re.compile(r"(norm|neck|head)/")
# What begins the name of a weight in files of whole models.
_WHOLE = ("backbone.", "backbone/", "base_model.")

ModelT = TypeVar("ModelT", bound=Model)


def load_pretrained(model: ModelT, path: str | os.PathLike[str], *, strict: bool = True) -> ModelT:
    """Loads a whole model, or the backbone of one from the weights of a classifier, in place.

    A classifier has no norms for the outputs of a backbone: the model then keeps its own.

    Args:
      model: receives the weights.
      path: a file that `load_torch` reads, a directory that `load_weights` reads, or a safetensors
        file with the names of `load_weights`.
      strict: False adapts what does not fit, as in `load_torch`.

    Returns:
      The same model.

    Raises:
      UserError: with every weight that does not fit.
    """
    in_orbax = epath.Path(path).is_dir()
    found = read_weights(path) if in_orbax else read_state_dict(path)
    own_names = any("/" in name for name in found)
    load = load_weights if own_names else load_torch
    backbone: Any = getattr(model, "backbone", None)
    if backbone is None or any(name.startswith(_WHOLE) for name in found):
        # By the path, errors name it; `load_weights` takes directories alone.
        return load(model, found if own_names and not in_orbax else path, strict=strict)
    if isinstance(backbone, Classifier):  # behind a prompt, with a head of its own
        load(backbone, found, strict=False)
        return model
    if own_names:
        own, classifier_only = variables(backbone), _CLASSIFIER_ONLY
    else:
        layout = find_layout(backbone, found)
        items = backbone.torch_layout(layout=layout)
        own = {item.name: item.variable for item in items if isinstance(item, Entry)}
        classifier_only = backbone.torch_names(layout).top_names
    shared = {name: value for name, value in found.items() if not classifier_only.match(name)}
    dense_only = {id(variable) for variable in variables(backbone.output_norms).values()}
    shared |= {name: np.asarray(v[...]) for name, v in own.items() if id(v) in dense_only}
    load(backbone, shared, strict=strict)
    return model
