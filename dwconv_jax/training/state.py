"""What a run holds between steps, as pure arrays: this is what checkpoints save."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

PureTree = dict[Any, Any]


@struct.dataclass
class TrainState:
    """All that a run must remember.

    Attributes:
      step: int32, the finished steps, skipped ones included.
      params: nested dicts of arrays, float32.
      batch_stats: likewise.
      opt_state: of the optimiser.
      skipped_steps: int32, the steps whose numbers were not finite: they changed nothing else.
      ema: moving averages of `params` and `batch_stats`, under these names; None without them.
    """

    step: jax.Array
    params: PureTree
    batch_stats: PureTree
    opt_state: optax.OptState
    skipped_steps: jax.Array
    ema: dict[str, PureTree] | None

    @property
    def inference_weights(self) -> tuple[PureTree, PureTree]:
        """Parameters and batch statistics to evaluate: the averages where there are any."""
        if self.ema is None:
            return self.params, self.batch_stats
        return self.ema["params"], self.ema["batch_stats"]


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


def initial_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, *, averages: bool = False
) -> TrainState:
    """The state at step 0; with `averages` it keeps moving averages of all weights."""
    params, batch_stats = take_apart(model)
    weights = {"params": params, "batch_stats": batch_stats}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        skipped_steps=jnp.zeros((), jnp.int32),
        # Copies: a step that reuses the memory of its state must not find an array in it twice.
        ema=jax.tree.map(jnp.copy, weights) if averages else None,
    )
