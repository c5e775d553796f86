"""Which parameters are trained; the batch norms among the others are frozen."""

from collections.abc import Sequence

import jax
from flax import nnx

from dwconv_jax.layers import BatchNorm
from dwconv_jax.training.optimizer.patterns import matching
from dwconv_jax.training.state import PureTree, take_apart


def freeze(model: nnx.Module, train_only: Sequence[str]) -> PureTree:
    """Decides which parameters of a model are trained, and freezes batch norms among the others.

    A batch norm with neither a trained scale nor a trained bias normalizes with its running
    statistics in training too, and does not update them.

    Args:
      model: may be abstract (`nnx.eval_shape`); its frozen batch norms are marked in place.
      train_only: patterns of the parameters to train; () for all.

    Returns:
      A nested dict like the model's parameters, of bools.

    Raises:
      UserError: a pattern is in the path of no parameter.
    """
    params, _ = take_apart(model)
    if not train_only:
        return jax.tree.map(lambda _: True, params)
    trained = matching(params, train_only, "config.train_only")
    for path, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            own = trained
            for key in path:
                own = own[key]
            module.frozen = not any(jax.tree.leaves(own))
    return trained
