"""AdamW as the authors use it: gradient clipping, and which parameters weight decay shrinks."""

from typing import Any

import jax
import optax
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.layers.weights.position_bias import RelativePositionBias
from dwconv_jax.training.schedules import Schedule
from dwconv_jax.training.state import PureTree, take_apart


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


def make_optimizer(
    config: ConfigDict, schedule: Schedule, model: nnx.Module
) -> optax.GradientTransformation:
    """Gradient clipping by the global norm, then AdamW with decoupled weight decay.

    Args:
      config: of the run.
      schedule: the learning rate at each step.
      model: whose parameters are trained; may be abstract.
    """
    optimizer = config.optimizer
    return optax.chain(
        optax.clip_by_global_norm(optimizer.clip_norm),
        optax.adamw(
            schedule,
            b1=optimizer.b1,
            b2=optimizer.b2,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            mask=decayed if optimizer.decayed == "kernels" else decayed_except_norms(model),
        ),
    )
