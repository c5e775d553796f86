"""AdamW as the authors use it, with a learning rate and a weight decay for each parameter."""

import jax
import optax
from flax import nnx
from ml_collections import ConfigDict

from dwconv_jax.training.optimizer.layer_decay import learning_rate_scales
from dwconv_jax.training.optimizer.schedules import Schedule
from dwconv_jax.training.optimizer.weight_decay import weight_decays
from dwconv_jax.training.state import PureTree, partition


def make_optimizer(
    config: ConfigDict, schedule: Schedule, model: nnx.Module, trained: PureTree
) -> optax.GradientTransformation:
    """Gradient clipping by the global norm, then AdamW with decoupled weight decay.

    Args:
      config: of the run.
      schedule: the learning rate at each step.
      model: whose parameters are trained; may be abstract.
      trained: marks the parameters to train, as `freeze` does; the optimizer sees no others.

    Raises:
      UserError: if a field of `config.optimizer` does not fit the model.
    """
    optimizer = config.optimizer
    decays, _ = partition(weight_decays(optimizer, model), trained)
    scales, _ = partition(learning_rate_scales(model, optimizer.layer_decay), trained)
    adamw = optax.chain(
        optax.scale_by_adam(b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.eps),
        _decay_and_scale(decays, scales),
        optax.scale_by_learning_rate(schedule),
    )
    return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), adamw)


def _decay_and_scale(decays: PureTree, scales: PureTree) -> optax.GradientTransformation:
    """Adds the weight decay of each parameter, and multiplies by its share of the learning rate."""

    def update_one(update: jax.Array, param: jax.Array, decay: float, scale: float) -> jax.Array:
        decayed = update + decay * param if decay else update
        return scale * decayed

    return optax.stateless(
        lambda updates, params: jax.tree.map(update_one, updates, params, decays, scales)
    )
