"""Layer-wise decay of the learning rate (Clark et al., 2020), as BEiT and ConvNeXt fine-tune."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from dwconv_jax.errors import UserError
from dwconv_jax.training.state import PureTree, take_apart


def learning_rate_scales(model: nnx.Module, layer_decay: float) -> PureTree:
    """What the learning rate of each parameter is multiplied by.

    That is `layer_decay` to the power of the number of layers after a parameter's own. The stem is
    layer 0 and each block is a layer, counted through the stages; what follows the blocks of a
    stage belongs to the last of them. Everything beyond the stages is the last layer, whose scale
    is 1: final norms and heads, of detection and segmentation too.

    Args:
      model: a classifier, or one with a `backbone`; may be abstract (`nnx.eval_shape`).
      layer_decay: in (0, 1].

    Returns:
      A nested dict like the model's parameters, of floats.

    Raises:
      UserError: the model has no stages.
    """
    params, _ = take_apart(model)
    if layer_decay == 1:
        return jax.tree.map(lambda _: 1.0, params)
    backbone: Any = getattr(model, "backbone", model)
    if not hasattr(backbone, "stages"):
        raise UserError(
            f"config.optimizer.layer_decay={layer_decay!r} needs a model with stages, which "
            f"{type(model).__name__} lacks; 1.0 turns it off"
        )
    depths = [len(stage.blocks) for stage in backbone.stages]
    prefix = () if backbone is model else ("backbone",)
    last = sum(depths) + 1

    def scale(keys: Sequence[Any], _: Any) -> float:
        path = tuple(key.key for key in keys)
        inside = path[len(prefix) :] if path[: len(prefix)] == prefix else ()
        return layer_decay ** (last - _layer(inside, depths))

    return jax.tree_util.tree_map_with_path(scale, params)


def _layer(path: tuple[Any, ...], depths: Sequence[int]) -> int:
    """The layer of a parameter at a path inside the backbone."""
    match path:
        case ("patch_embed", *_):
            return 0
        case ("stages", int(stage), "blocks", int(block), *_):
            return 1 + sum(depths[:stage]) + block
        case ("stages", int(stage), *_):
            return sum(depths[: stage + 1])
        case _:
            return sum(depths) + 1
