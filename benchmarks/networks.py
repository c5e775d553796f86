"""Whole networks as pure functions to measure: an evaluation, and an AdamW step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments

_OPTIMIZER = optax.adamw(1e-3, weight_decay=0.05)


def evaluation(model: nnx.Module, images: jax.Array) -> Call:
    """The logits of a batch."""
    graph, state = nnx.split(model)

    def evaluate(state: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(images)

    return evaluate, (state, images)


def training(
    model: nnx.Module,
    images: jax.Array,
    labels: jax.Array | None = None,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
) -> Call:
    """A step on the training state and a batch; returns the next state, which ends with the loss.

    Args:
      model: with its initial weights.
      images: `[B, H, W, 3]`.
      labels: int `[B]`; by default all different.
      optimizer: of the parameters.
    """
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss_of(parameters: nnx.State, rest: nnx.State, images: jax.Array, labels: jax.Array):
        model = nnx.merge(graph, parameters, rest, copy=True)
        logits = model(images, train=True).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), nnx.state(model, nnx.Not(nnx.Param))

    def step(state: tuple[Any, ...], images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
        parameters, rest, moments, _ = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, rest), gradients = gradient(parameters, rest, images, labels)
        updates, moments = optimizer.update(gradients, moments, parameters)
        return optax.apply_updates(parameters, updates), rest, moments, loss

    state = (parameters, rest, optimizer.init(parameters), jnp.zeros(()))
    return step, (state, images, jnp.arange(len(images)) if labels is None else labels)


def stepper(compiled: Any, arguments: tuple[Any, ...]) -> Callable[[], Any]:
    """Calls a step on the state of the last call, whose memory it reuses."""
    state, *batch = arguments

    def call() -> Any:
        nonlocal state
        state = compiled(state, *batch)
        return state

    return call
