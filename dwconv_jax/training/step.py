"""The training step and the evaluation step, for any task on any mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from dwconv_jax.tasks.task import Task
from dwconv_jax.training.optimizer.schedules import Schedule
from dwconv_jax.training.state import ModelDef, PureTree, TrainState, combine, partition

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    task: Task,
    model: ModelDef,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    *,
    seed: int,
    accumulation_steps: int,
    ema_decay: float | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Makes a pure function of the state and a global batch.

    The batch is split into `accumulation_steps` micro-batches; gradients are averaged, and batch
    norms see one micro-batch at a time. A step with a non-finite value only increments
    `skipped_steps`. With `ema_decay` the state holds moving averages. The gradient is taken with
    respect to the parameters of `model.trained` alone.
    """

    def loss_and_statistics(
        trained: PureTree, frozen: PureTree, batch_stats: PureTree, batch: Batch, key: jax.Array
    ):
        merged = model.merge(combine(trained, frozen), batch_stats)
        loss, metrics = task.loss(merged, batch, nnx.Rngs(key))
        updated = nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))
        return loss, (updated, {"loss": loss, **metrics})

    gradient = jax.grad(loss_and_statistics, has_aux=True)

    def accumulate(
        trained: PureTree, frozen: PureTree, batch_stats: PureTree, batch: Batch, key: jax.Array
    ):
        def micro_step(carry: tuple[PureTree, PureTree], inputs: tuple[Batch, jax.Array]):
            total, batch_stats = carry
            micro_batch, index = inputs
            grads, (batch_stats, metrics) = gradient(
                trained, frozen, batch_stats, micro_batch, jax.random.fold_in(key, index)
            )
            return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

        zeros = jax.tree.map(jnp.zeros_like, trained)
        inputs = (_micro_batches(batch, accumulation_steps), jnp.arange(accumulation_steps))
        (total, batch_stats), metrics = jax.lax.scan(micro_step, (zeros, batch_stats), inputs)
        grads = jax.tree.map(lambda g: g / accumulation_steps, total)
        return grads, batch_stats, jax.tree.map(jnp.mean, metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        trained, frozen = partition(state.params, model.trained)
        arguments = (trained, frozen, state.batch_stats, batch, key)
        if accumulation_steps == 1:
            grads, (batch_stats, metrics) = gradient(*arguments)
        else:
            grads, batch_stats, metrics = accumulate(*arguments)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        metrics["grad_norm"] = optax.tree.norm(grads)
        metrics["learning_rate"] = schedule(state.step - state.skipped_steps)
        params = combine(optax.apply_updates(trained, updates), frozen)
        updated = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=average(state.ema, params, batch_stats),
        )
        return _updated_if_finite(state, updated, metrics), metrics

    def average(ema: dict[str, PureTree] | None, params: PureTree, batch_stats: PureTree):
        if ema_decay is None:
            return ema
        weights = {"params": params, "batch_stats": batch_stats}
        # `optax.incremental_update` would round weights that do not change.
        return jax.tree.map(lambda old, new: old + (1 - ema_decay) * (new - old), ema, weights)

    return train_step


def _updated_if_finite(state: TrainState, updated: TrainState, metrics: Metrics) -> TrainState:
    # `optax.apply_if_finite` guards only parameters, and applies the last of several bad steps.
    skipped = dataclasses.replace(state, step=state.step + 1, skipped_steps=state.skipped_steps + 1)
    finite = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, skipped)


def _micro_batches(batch: Batch, count: int) -> Batch:
    """Reshapes `[B, ...]` to `[count, B / count, ...]`; devices keep their own examples."""
    return {k: v.reshape(-1, count, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}


def make_eval_step(task: Task, model: ModelDef) -> Callable[[TrainState, Batch], tuple[Any, Any]]:
    """Makes a pure function of the state and a masked global batch; see `Task.evaluate`."""

    def eval_step(state: TrainState, batch: Batch) -> tuple[Any, Any]:
        return task.evaluate(model.merge(*state.inference_weights), batch)

    return eval_step
