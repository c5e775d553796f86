"""Whole networks as pure functions to measure: an evaluation, and an AdamW step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

Array = jax.Array | np.ndarray
Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments

_OPTIMIZER = optax.adamw(1e-3, weight_decay=0.05)


def with_any_weights(build: Callable[[], nnx.Module]) -> nnx.Module:
    """The model with small weights that mean nothing, without the time to initialize it."""
    rng = np.random.default_rng(0)

    def fill(leaf: jax.ShapeDtypeStruct) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.floating):  # variances must not be negative
            return np.abs(rng.normal(0, 0.02, leaf.shape)).astype(leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return np.zeros(leaf.shape, leaf.dtype)

    graph, state = nnx.split(nnx.eval_shape(build))
    return nnx.merge(graph, jax.tree.map(fill, state))


def evaluation(model: nnx.Module, images: Array) -> Call:
    """The logits of a batch."""
    graph, state = nnx.split(model)

    def evaluate(state: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(images)

    return evaluate, (state, images)


def training(
    model: nnx.Module,
    images: Array,
    labels: Array | None = None,
    optimizer: optax.GradientTransformation = _OPTIMIZER,
) -> Call:
    """A step on the training state and a batch; returns the next state, which ends with the loss.

    Args:
      model: with its initial weights.
      images: `[B, H, W, 3]`.
      labels: int `[B]`; by default all different.
      optimizer: of the parameters.
    """
    graph, *states = nnx.split(model, nnx.Param, ...)
    parameters, rest = states

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
