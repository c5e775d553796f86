"""Which parameters weight decay shrinks, and how much."""

from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.layers.weights.position_bias import RelativePositionBias
from dwconv_jax.training.optimizer.patterns import matching
from dwconv_jax.training.state import PureTree, take_apart


def weight_decays(config: ConfigDict, model: nnx.Module) -> PureTree:
    """The weight decay of each parameter.

    Args:
      config: `config.optimizer` of a run.
      model: may be abstract (`nnx.eval_shape`).

    Returns:
      A nested dict like the model's parameters, of floats.

    Raises:
      UserError: a pattern of `weight_decay_groups` is in the path of no parameter.
    """
    params, _ = take_apart(model)
    shrunk = decayed(params) if config.decayed == "kernels" else decayed_except_norms(model)
    decays = jax.tree.map(lambda shrinks: config.weight_decay if shrinks else 0.0, shrunk)
    # From last to first, so that the first pattern that matches is the one that counts.
    for pattern, decay in reversed(config.weight_decay_groups):
        members = matching(params, (pattern,), "config.optimizer.weight_decay_groups")
        decays = jax.tree.map(
            lambda member, other, decay=decay: decay if member else other, members, decays
        )
    return decays


def decayed(params: Any) -> Any:
    """Marks kernels for weight decay, and not biases, norms or position biases (classification)."""

    def is_kernel(path: tuple[Any, ...], _: Any) -> bool:
        names = [jax.tree_util.keystr((key,), simple=True) for key in path]
        return names[-1] == "kernel" and "position_bias" not in names

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def decayed_except_norms(model: nnx.Module) -> PureTree:
    """Marks all parameters for weight decay but layer norms, output norms and position tables.

    mmseg and mmdet exempt names that contain "norm". The authors' batch norms inside blocks and
    heads are called "bn", so they are decayed, and so are biases.

    Args:
      model: may be abstract (`nnx.eval_shape`).

    Returns:
      A nested dict like the model's parameters, of bools.
    """
    mask = jax.tree.map(lambda _: True, take_apart(model)[0])
    for path, module in nnx.iter_modules(model):
        exempt = isinstance(module, (nnx.LayerNorm, RelativePositionBias))
        if exempt or "output_norms" in path[:-1]:
            _clear(mask, path)
    return mask


def _clear(mask: Any, path: tuple[Any, ...]) -> None:
    for key in path[:-1]:
        mask = mask[key]
    mask[path[-1]] = jax.tree.map(lambda _: False, mask[path[-1]])
