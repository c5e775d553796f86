"""Whole models against PyTorch: `python -m benchmarks.cpu.models`.

The paper's models run against plain PyTorch, the published networks against timm's.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import dwconv_jax
from benchmarks import networks
from benchmarks.session import Session, parser, reuses_memory, session, using
from benchmarks.timing import compile_function, timer
from dwconv_jax.models import VARIANTS
from dwconv_jax.models.fold import fold_batch_norms

BATCH = 8
# By our name, timm's.
TIMM_MODELS = {
    "convnext_tiny": "convnext_tiny",
    "maxvit_tiny_tf_224": "maxvit_tiny_tf_224",
    "pvt_v2_b2": "pvt_v2_b2",
    "halonet26t": "halonet26t",
    "efficientnet_lite0": "tf_efficientnet_lite0",
}
MODELS = (
    "dwnet_tiny", "dynamic_dwnet_tiny", "i_dynamic_dwnet_tiny", "swin_tiny", "nat_mini",
    *TIMM_MODELS,
)  # fmt: skip
# The compiled kernel has their operator.
KERNEL_MODELS = ("dwnet_tiny", "dynamic_dwnet_tiny", "convnext_tiny", "efficientnet_lite0")


def evaluation(name: str) -> networks.Call:
    """The logits of a batch."""
    return networks.evaluation(_create(name), _images(name))


def folded_evaluation(name: str) -> networks.Call:
    """The logits of the model that `export` writes, with batch norms folded into its weights."""
    return networks.evaluation(fold_batch_norms(_create(name)), _images(name))


def bfloat16_evaluation(name: str) -> networks.Call:
    """The logits of a batch, computed in bfloat16."""
    return networks.evaluation(_create(name, dtype=jnp.bfloat16), _images(name))


def training(name: str) -> networks.Call:
    """An AdamW step on the training state and a batch."""
    return networks.training(_create(name), _images(name))


def _create(name: str, **options: Any) -> nnx.Module:
    return dwconv_jax.create_model(name, rngs=nnx.Rngs(0), **options)


def _images(name: str) -> jax.Array:
    size = VARIANTS[name].image_size
    return jax.random.normal(jax.random.key(1), (BATCH, size, size, 3))


def peers(name: str) -> dict[str, dict[str, Any]]:
    """The peers of a model, and how their cases differ from the plain one."""
    if name in TIMM_MODELS:
        own = {"name": f"timm/{TIMM_MODELS[name]}"}
        return {"timm": own, "timm compiled": own | {"compiled": True}}
    others = {"transformers": {"name": "transformers_swin_tiny"}} if name == "swin_tiny" else {}
    return {"PyTorch": {}, "PyTorch compiled": {"compiled": True}, **others}


PHASES = {
    "evaluation": evaluation,
    "evaluation, norms folded": folded_evaluation,
    "evaluation, bfloat16": bfloat16_evaluation,
    "training step": training,
}


def phases(name: str) -> list[str]:
    """What is measured of a model; only DWNets have the rows of folded norms."""
    return [what for what in PHASES if PHASES[what] is not folded_evaluation or "dwnet" in name]


def measure(run: Session, name: str, what: str, lowering: str, donate: bool) -> None:
    """Adds a row for each peer; a training step overwrites its state if `donate`."""
    build = PHASES[what]
    train = build is training
    with using(lowering):
        function, arguments = build(name)
        donated = (0,) if train and donate else ()
        compiled, seconds = compile_function(function, *arguments, donate=donated)
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    print(f"{name}, {what}, {lowering}: temporaries {temporaries / 1e6:,.0f} MB", flush=True)
    call = networks.stepper(compiled, arguments) if train else lambda: compiled(*arguments)
    size = VARIANTS[name].image_size
    dtype = "bfloat16" if build is bfloat16_evaluation else "float32"
    details = {"name": name, "batch": BATCH, "size": size, "train": train, "dtype": dtype}
    label, ours = (name, what, lowering), timer(call)
    for peer, changes in peers(name).items():
        run.measure_against_torch(label, seconds, ours, "model", details | changes, peer)


def main(options: argparse.Namespace) -> None:
    """Measures what `--only` selects."""
    with session(f"Models, batch {BATCH}", options) as run:
        for name in MODELS:
            if not name.startswith(options.only):
                continue
            for what in phases(name):
                for lowering in run.lowerings() if name in KERNEL_MODELS else ["XLA"]:
                    measure(run, name, what, lowering, reuses_memory(options))


if __name__ == "__main__":
    main(parser(__doc__, "models").parse_args())
