"""What a run holds between steps, as pure arrays: this is what checkpoints save."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct, traverse_util

PureTree = dict[Any, Any]


@struct.dataclass
class TrainState:
    """Everything that a run must remember.

    Attributes:
      step: int32, the number of finished steps, skipped ones included.
      params: nested dicts of float32 arrays.
      batch_stats: nested dicts of float32 arrays.
      opt_state: the optimizer's state, for trained parameters only.
      skipped_steps: int32, the number of steps with non-finite values; they changed nothing else.
      ema: moving averages of `params` and `batch_stats`, under these names, or None.
    """

    step: jax.Array
    params: PureTree
    batch_stats: PureTree
    opt_state: optax.OptState
    skipped_steps: jax.Array
    ema: dict[str, PureTree] | None

    @classmethod
    def create(
        cls,
        model: nnx.Module,
        optimizer: optax.GradientTransformation,
        *,
        trained: PureTree | None = None,
        averages: bool = False,
    ) -> "TrainState":
        """Returns the state at step 0.

        Args:
          model: with its initial weights.
          optimizer: of the trained parameters.
          trained: marks them, as `freeze` does; None for all parameters.
          averages: whether to keep moving averages of all weights.
        """
        params, batch_stats = take_apart(model)
        weights = {"params": params, "batch_stats": batch_stats}
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            # One program: `init` compiles one for every shape.
            opt_state=jax.jit(optimizer.init)(partition(params, trained)[0] if trained else params),
            skipped_steps=jnp.zeros((), jnp.int32),
            # Copies: a step that donates its state must not find an array in it twice.
            ema=jax.tree.map(jnp.copy, weights) if averages else None,
        )

    @property
    def inference_weights(self) -> tuple[PureTree, PureTree]:
        """Parameters and batch statistics to evaluate: the averages if the run keeps them."""
        if self.ema is None:
            return self.params, self.batch_stats
        return self.ema["params"], self.ema["batch_stats"]


class ModelDef:
    """A model without its arrays.

    Attributes:
      trained: marks the parameters to train, as `freeze` does.
    """

    def __init__(self, model: nnx.Module, trained: PureTree | None = None):
        """Takes a model apart; without `trained` all parameters are trained."""
        self.trained = trained or jax.tree.map(lambda _: True, take_apart(model)[0])
        graph, _, _, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)  # type: ignore[misc]
        self._graph, self._rest = graph, rest

    def merge(self, params: PureTree, batch_stats: PureTree) -> Any:
        """Returns the model with these arrays; a traced function may change it."""
        states = nnx.State(params), nnx.State(batch_stats), self._rest
        return nnx.merge(self._graph, *states, copy=True)


def take_apart(model: nnx.Module) -> tuple[PureTree, PureTree]:
    """Returns the parameters and batch statistics of a model as nested dicts."""
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def partition(tree: PureTree, mask: PureTree) -> tuple[PureTree, PureTree]:
    """Splits nested dicts into the leaves that a tree of bools marks, and the others."""
    leaves, marked = traverse_util.flatten_dict(tree), traverse_util.flatten_dict(mask)
    parts = [{k: v for k, v in leaves.items() if marked[k] == side} for side in (True, False)]
    first, second = map(traverse_util.unflatten_dict, parts)
    return first, second


def combine(*parts: PureTree) -> PureTree:
    """Joins what `partition` has split."""
    leaves = [traverse_util.flatten_dict(part) for part in parts]
    joined: PureTree = traverse_util.unflatten_dict(
        {k: v for part in leaves for k, v in part.items()}
    )
    return joined
