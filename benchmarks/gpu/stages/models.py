"""Whole networks in bfloat16: images a second, memory and compile time, beside PyTorch's."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.gpu import torch_peer
from benchmarks.gpu.candidates import KERNELS
from benchmarks.gpu.clock import seconds_of
from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.networks import evaluation, stepper, training, with_any_weights
from benchmarks.timing import compile_function
from dwconv_jax import create_model, list_models

MODELS = ("dwnet_tiny", "swin_tiny", "dynamic_dwnet_tiny", "i_dynamic_dwnet_tiny", "convnext_tiny")
_PYTORCH = ("dwnet_tiny", "timm/swin_tiny_patch4_window7_224", "timm/convnext_tiny",
            "dynamic_dwnet_tiny", "swin_tiny", "i_dynamic_dwnet_tiny")  # fmt: skip
_PHASES = ("training step", "evaluation")
_BATCHES = (128, 256)
_TOY = dict(embed_dim=8, depths=(1,), num_classes=10, window_size=3)
# Compiling a network, and choosing among cuDNN's algorithms, may take minutes.
_PATIENCE = 240.0


def cases(settings: Settings) -> Sequence[Case]:
    """All networks at 128 images first, PyTorch compiled last."""
    size, batches = (16, (2,)) if settings.dry_run else (224, _BATCHES)
    names = MODELS[:1] if settings.dry_run else [n for n in MODELS if n in list_models()]
    phases = _PHASES[1:] if settings.dry_run else _PHASES  # with our kernels
    found = []
    for batch in batches:
        found += [_ours(n, p, batch, size, settings) for p in _PHASES for n in names]
        for lowering, phase in itertools.product(KERNELS, phases):
            mixer = dict(lowering=lowering)
            found.append(_ours("dwnet_tiny", phase, batch, size, settings, mixer=mixer))
        found += [_pytorch(n, p, batch, settings) for p in _PHASES for n in _PYTORCH]
    for batch, phase, name in itertools.product(batches, _PHASES, _PYTORCH):
        found.append(_pytorch(name, phase, batch, settings, compiled=True))
    for module, marks in (("timm", ": timm"), ("torch", ": PyTorch")):
        if not torch_peer.has(module, settings):
            found = [case for case in found if marks not in case.name]
            found.append(torch_peer.missing(module, settings))
    return found


def _ours(
    name: str, phase: str, batch: int, size: int, settings: Settings, **overrides: Any
) -> Case:
    if settings.dry_run:
        overrides |= _TOY
    run = functools.partial(_measure, name, phase, (batch, size, size, 3), overrides, settings)
    chosen = "".join(f", lowering={m['lowering']}" for m in [overrides.get("mixer")] if m)
    return Case(f"{name}, {phase}, {batch} images: ours{chosen}", run, _PATIENCE)


def _measure(
    name: str, phase: str, shape: tuple[int, ...], overrides: dict[str, Any], settings: Settings
) -> Iterator[dict[str, Any]]:
    build = functools.partial(create_model, name, dtype=jnp.bfloat16, **overrides)
    model = with_any_weights(lambda: build(rngs=nnx.Rngs(0)))
    images = jax.random.normal(jax.random.key(1), shape)
    train = phase == "training step"
    function, arguments = (training if train else evaluation)(model, images)
    arguments = jax.device_put(arguments)
    compiled, seconds = compile_function(function, *arguments, donate=(0,) if train else ())
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    yield {"compile s": seconds, "peak GB": peak / 1e9}
    call = stepper(compiled, arguments) if train else lambda: compiled(*arguments)
    yield _speed(seconds_of(call, settings), shape[0])


def _pytorch(name: str, phase: str, batch: int, settings: Settings, compiled: bool = False) -> Case:
    def run() -> Iterator[dict[str, Any]]:
        train, size = phase == "training step", 224
        details = dict(name=name, batch=batch, size=size, train=train, compiled=compiled)
        answer = torch_peer.ask(settings, "model", **details)
        if "error" in answer:
            yield answer
            return
        yield {"compile s": answer["first s"], "peak GB": answer["peak"] / 1e9}
        yield _speed(answer["s"], batch)

    plain = name.rpartition("/")[2]
    source = "timm" if name.startswith("timm/") else "PyTorch"
    how = ", compiled" if compiled else ""
    return Case(f"{plain}, {phase}, {batch} images: {source}{how}", run, _PATIENCE)


def _speed(seconds: float, batch: int) -> dict[str, float]:
    return {"images/s": batch / seconds, "ms": seconds * 1e3}
