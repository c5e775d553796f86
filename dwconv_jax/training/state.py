"""What a run holds between steps, as pure arrays: this is what checkpoints save."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

PureTree = dict[Any, Any]


@struct.dataclass
class TrainState:
    """`step` counts finished steps; `params` and `batch_stats` are nested dicts of arrays."""

    step: jax.Array
    params: PureTree
    batch_stats: PureTree
    opt_state: optax.OptState


class ModelDef:
    """A model without its arrays: takes them apart and puts them together again."""

    def __init__(self, model: nnx.Module):
        graph, _, _, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)  # type: ignore[misc]
        self._graph, self._rest = graph, rest

    def merge(self, params: PureTree, batch_stats: PureTree) -> Any:
        """The model with these arrays, safe to change inside a traced function."""
        states = nnx.State(params), nnx.State(batch_stats), self._rest
        return nnx.merge(self._graph, *states, copy=True)


def take_apart(model: nnx.Module) -> tuple[PureTree, PureTree]:
    """A model's parameters and batch statistics as nested dicts."""
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def initial_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """The state at step 0."""
    params, batch_stats = take_apart(model)
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))
