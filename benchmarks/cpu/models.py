"""Whole models against PyTorch, 224x224: `python -m benchmarks.cpu.models`."""

import argparse
from typing import Any

import jax
from flax import nnx

import dwconv_jax
from benchmarks import networks
from benchmarks.session import Session, parser, session, using
from benchmarks.timing import compile_function, timer
from dwconv_jax.models.fold import fold_batch_norms

BATCH, SIZE = 8, 224
KERNEL_MODELS = ("dwnet_tiny", "dynamic_dwnet_tiny")  # the compiled kernel has their operator
MODELS = (*KERNEL_MODELS, "i_dynamic_dwnet_tiny", "swin_tiny")


def evaluation(name: str) -> networks.Call:
    """The logits of a batch."""
    return networks.evaluation(_create(name), _images())


def folded_evaluation(name: str) -> networks.Call:
    """The logits of the model that `export` writes, with batch norms folded into its weights."""
    return networks.evaluation(fold_batch_norms(_create(name)), _images())


def training(name: str) -> networks.Call:
    """An AdamW step on the training state and a batch."""
    return networks.training(_create(name), _images())


def _create(name: str) -> nnx.Module:
    return dwconv_jax.create_model(name, rngs=nnx.Rngs(0))


def _images() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (BATCH, SIZE, SIZE, 3))


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
    call = networks.stepper(compiled, arguments) if train else lambda: compiled(*arguments)
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
