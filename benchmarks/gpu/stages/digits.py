"""Training on scikit-learn's digits: the accuracy, and whether the CPU computes the same losses."""

import functools
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import dwconv_jax
from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.networks import evaluation, training

# As configs/digits.py trains, but with labels that are not smoothed.
_MODEL = dict(patch_size=1, embed_dim=24, depths=(1, 1, 1), window_size=5, drop_path_rate=0.1)
_BATCH, _EPOCHS, _WARMUP_EPOCHS, _RATE = 64, 40, 3, 4e-3
_NUM_TEST = 360
_LEAST_ACCURACY = 0.97
# Rounding grows as training goes on: these are the first steps.
_CURVE_STEPS, _CURVE_BOUND = 40, 1e-3


class Digits(NamedTuple):
    """Images `[N, 8, 8, 3]` in [-1, 1] and labels `[N]`."""

    images: np.ndarray
    labels: np.ndarray


def cases(settings: Settings) -> Sequence[Case]:
    """Training in bfloat16 to its accuracy, and loss curves in float32."""
    if importlib.util.find_spec("sklearn") is None:
        return (Case("scikit-learn", lambda: iter([{"skipped": "it is not installed"}])),)
    return (
        Case("accuracy", functools.partial(_accuracy, settings), 150),
        Case("loss curve", functools.partial(_curves, settings), 150),
    )


def _accuracy(settings: Settings) -> Iterator[dict[str, Any]]:
    train, test = _load()
    steps = 2 if settings.dry_run else _EPOCHS * (len(train.labels) // _BATCH)
    model, losses = _train(train, steps, jnp.bfloat16, jax.devices()[0])
    yield {"steps": steps, "last loss": float(losses[-1])}
    evaluate, arguments = evaluation(model, jnp.asarray(test.images))
    accuracy = float(np.mean(jax.jit(evaluate)(*arguments).argmax(-1) == test.labels))
    yield {"accuracy": accuracy}
    if accuracy < _LEAST_ACCURACY and not settings.dry_run:
        yield {"error": f"the accuracy is below {_LEAST_ACCURACY}"}


def _curves(settings: Settings) -> Iterator[dict[str, Any]]:
    jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
    train, _ = _load()
    steps = 2 if settings.dry_run else _CURVE_STEPS
    devices = jax.devices()[0], jax.devices("cpu")[0]
    (_, here), (_, on_cpu) = (_train(train, steps, jnp.float32, device) for device in devices)
    difference = float(np.abs(here - on_cpu).max())
    yield {"steps": steps, "last loss": float(here[-1]), "difference": difference}
    if not difference <= _CURVE_BOUND:
        yield {"error": f"the losses differ by {difference:.1e}, allowed are {_CURVE_BOUND:.0e}"}


def _load() -> tuple[Digits, Digits]:
    """Digits to train and to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = np.repeat(digits.images[order, ..., None] / 8 - 1, 3, axis=-1).astype(np.float32)
    labels = digits.target[order]
    train, test = slice(_NUM_TEST, None), slice(_NUM_TEST)
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def _train(
    digits: Digits, steps: int, dtype: Any, device: jax.Device
) -> tuple[nnx.Module, np.ndarray]:
    """Trains a new model, always the same; returns it and the loss of each step."""
    per_epoch = len(digits.labels) // _BATCH
    rate = optax.warmup_cosine_decay_schedule(
        0.0, _RATE, _WARMUP_EPOCHS * per_epoch, _EPOCHS * per_epoch
    )
    with jax.default_device(jax.devices("cpu")[0]):
        model = dwconv_jax.create_model(
            "dynamic_dwnet_tiny", num_classes=10, dtype=dtype, rngs=nnx.Rngs(0), **_MODEL
        )
    batches = _batches(digits)
    step, (state, *_) = training(model, *next(batches), optimizer=optax.adamw(rate))
    state, compiled, losses = jax.device_put(state, device), jax.jit(step, donate_argnums=0), []
    for _ in range(steps):
        state = compiled(state, *jax.device_put(next(batches), device))
        losses.append(jnp.copy(state[-1]))  # the next step reuses the state's memory
    nnx.update(model, *state[:2])
    return model, np.asarray(jax.device_get(losses))


def _batches(digits: Digits) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches of digits, each moved by at most one pixel; always the same."""
    rng = np.random.default_rng(0)
    padded = np.pad(digits.images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    while True:
        order = rng.permutation(len(digits.labels))
        for first in range(0, len(order) - _BATCH + 1, _BATCH):
            chosen = order[first : first + _BATCH]
            top, left = rng.integers(0, 3, 2)
            yield padded[chosen, top : top + 8, left : left + 8], digits.labels[chosen]
