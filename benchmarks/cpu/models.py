"""Whole models against PyTorch, 224x224: `python -m benchmarks.cpu.models`."""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import dwconv_jax
from benchmarks.session import Session, parser, session, using
from benchmarks.timing import compile_function, timer
from dwconv_jax.models.fold import fold_batch_norms

BATCH, SIZE = 8, 224
KERNEL_MODELS = ("dwnet_tiny", "dynamic_dwnet_tiny")  # the compiled kernel has their operator
MODELS = (*KERNEL_MODELS, "i_dynamic_dwnet_tiny", "swin_tiny")
OPTIMIZER = optax.adamw(1e-3, weight_decay=0.05)

Case = tuple[Callable[..., Any], tuple[Any, ...]]  # a call and its arguments


def evaluation(name: str) -> Case:
    """The logits of a batch."""
    return _logits(dwconv_jax.create_model(name, rngs=nnx.Rngs(0)))


def folded_evaluation(name: str) -> Case:
    """The logits of the model that `export` writes, with batch norms folded into its weights."""
    return _logits(fold_batch_norms(dwconv_jax.create_model(name, rngs=nnx.Rngs(0))))


def _logits(model: nnx.Module) -> Case:
    graph, state = nnx.split(model)

    def evaluate(state: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(images)

    return evaluate, (state, jax.random.normal(jax.random.key(1), (BATCH, SIZE, SIZE, 3)))


def training(name: str) -> Case:
    """An AdamW step on the training state and a batch."""
    model = dwconv_jax.create_model(name, rngs=nnx.Rngs(0))
    graph, *states = nnx.split(model, nnx.Param, ...)
    parameters, rest = states

    def loss(parameters: nnx.State, rest: nnx.State, images: jax.Array, labels: jax.Array):
        model = nnx.merge(graph, parameters, rest, copy=True)
        logits = model(images, train=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), nnx.state(model, nnx.Not(nnx.Param))

    def step(training_state: tuple[Any, ...], images: jax.Array, labels: jax.Array):
        parameters, rest, optimizer = training_state
        gradients, rest = jax.grad(loss, has_aux=True)(parameters, rest, images, labels)
        updates, optimizer = OPTIMIZER.update(gradients, optimizer, parameters)
        return optax.apply_updates(parameters, updates), rest, optimizer

    images = jax.random.normal(jax.random.key(1), (BATCH, SIZE, SIZE, 3))
    return step, ((parameters, rest, OPTIMIZER.init(parameters)), images, jnp.arange(BATCH))


def stepper(compiled: Any, arguments: tuple[Any, ...]) -> Callable[[], Any]:
    """Calls a step on the state of the last call, whose memory it reuses."""
    state, *batch = arguments

    def call() -> Any:
        nonlocal state
        state = compiled(state, *batch)
        return state

    return call


def peers(name: str) -> dict[str, dict[str, Any]]:
    """The peers of a model, and how their cases differ from the plain one."""
    others = {"transformers": {"name": "transformers_swin_tiny"}} if name == "swin_tiny" else {}
    return {"PyTorch": {}, "PyTorch compiled": {"compiled": True}, **others}


PHASES = {
    "evaluation": evaluation,
    "evaluation, norms folded": folded_evaluation,
    "training step": training,
}


def measure(run: Session, name: str, what: str, lowering: str) -> None:
    """Adds a row for each peer."""
    build = PHASES[what]
    train = build is training
    with using(lowering):
        function, arguments = build(name)
        compiled, seconds = compile_function(function, *arguments, donate=(0,) if train else ())
    call = stepper(compiled, arguments) if train else lambda: compiled(*arguments)
    details = {"name": name, "batch": BATCH, "size": SIZE, "train": train}
    label, ours = (name, what, lowering), timer(call)
    for peer, changes in peers(name).items():
        run.measure_against_torch(label, seconds, ours, "model", details | changes, peer)


def main(options: argparse.Namespace) -> None:
    """Measures what `--only` selects."""
    with session(f"Models, {SIZE}x{SIZE}, batch {BATCH}, float32", options) as run:
        for name in MODELS:
            if not name.startswith(options.only):
                continue
            for what in PHASES if name != "swin_tiny" else ("evaluation", "training step"):
                for lowering in run.lowerings() if name in KERNEL_MODELS else ["XLA"]:
                    measure(run, name, what, lowering)


if __name__ == "__main__":
    main(parser(__doc__, "models").parse_args())
