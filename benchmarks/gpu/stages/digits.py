"""Training on scikit-learn's digits: the accuracy, and whether the CPU computes the same losses."""

import functools
import importlib.util
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from benchmarks.gpu.stages.case import Case, Settings
from benchmarks.networks import evaluation, training
from dwconv_jax import create_model

# As configs/digits.py, but static, which carries rounding errors on more slowly, and unsmoothed.
_MODEL = dict(patch_size=1, embed_dim=24, depths=(1, 1, 1), window_size=5, drop_path_rate=0.1)
_TOY = _MODEL | dict(embed_dim=8, depths=(1,), window_size=3)
_BATCH, _EPOCHS, _WARMUP_EPOCHS, _RATE = 64, 40, 3, 4e-3
_NUM_TEST = 360
_LEAST_ACCURACY = 0.96
# Training multiplies differences: on CPUs, two orders of summation part by 1e-6 in 30 steps, by
# 2e-3 in 40.
_CURVE_STEPS, _CURVE_BOUND = 20, 1e-3


class Digits(NamedTuple):
    """Images `[N, 8, 8, 3]` in [-1, 1] and labels `[N]`."""

    images: np.ndarray
    labels: np.ndarray


def cases(settings: Settings) -> Sequence[Case]:
    """One training run, whose first steps the CPU repeats."""
    if importlib.util.find_spec("sklearn") is None:
        return (Case("scikit-learn", lambda: iter([{"skipped": "it is not installed"}])),)
    return (Case("digits, float32", functools.partial(_check, settings), 150),)


def _check(settings: Settings) -> Iterator[dict[str, Any]]:
    jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
    train, test = _load()
    steps = 3 if settings.dry_run else _EPOCHS * (len(train.labels) // _BATCH)
    run = _Run(train, _TOY if settings.dry_run else _MODEL)
    began = time.perf_counter()
    state, losses = run.train(steps, jax.devices()[0])
    yield {"steps": steps, "s": time.perf_counter() - began, "last loss": float(losses[-1])}
    accuracy = run.accuracy(state, test)
    yield {"accuracy": accuracy}
    if accuracy < _LEAST_ACCURACY and not settings.dry_run:
        yield {"error": f"the accuracy is below {_LEAST_ACCURACY}"}
    _, on_cpu = run.train(min(steps, _CURVE_STEPS), jax.devices("cpu")[0])
    difference = float(np.abs(losses[: len(on_cpu)] - on_cpu).max())
    yield {f"difference in {len(on_cpu)} steps": difference}
    if not difference <= _CURVE_BOUND:
        yield {"error": f"the losses differ by {difference:.1e}, allowed are {_CURVE_BOUND:.0e}"}


class _Run:
    """A model and its training step; every training starts from the same weights."""

    def __init__(self, digits: Digits, overrides: dict[str, Any]):
        per_epoch = len(digits.labels) // _BATCH
        rate = optax.warmup_cosine_decay_schedule(
            0.0, _RATE, _WARMUP_EPOCHS * per_epoch, _EPOCHS * per_epoch
        )
        with jax.default_device(jax.devices("cpu")[0]):  # the same weights on every platform
            self._model = create_model("dwnet_tiny", num_classes=10, rngs=nnx.Rngs(0), **overrides)
            batch = next(_batches(digits))
            step, (state, *_) = training(self._model, *batch, optimizer=optax.adamw(rate))
        self._digits, self._step, self._state = digits, jax.jit(step), state

    def train(self, steps: int, device: jax.Device) -> tuple[Any, np.ndarray]:
        """The state after some steps, and the loss of each."""
        state, losses = jax.device_put(self._state, device), []
        for _, batch in zip(range(steps), _batches(self._digits), strict=False):
            state = self._step(state, *jax.device_put(batch, device))
            losses.append(state[-1])
        return state, np.asarray(jax.device_get(losses))

    def accuracy(self, state: Any, digits: Digits) -> float:
        """The share of digits that a trained state tells right."""
        evaluate, _ = evaluation(self._model, digits.images)
        logits = jax.jit(evaluate)(nnx.merge_state(*state[:2]), digits.images)
        return float(np.mean(logits.argmax(-1) == digits.labels))


def _load() -> tuple[Digits, Digits]:
    """Digits to train and to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = np.repeat(digits.images[order, ..., None] / 8 - 1, 3, axis=-1).astype(np.float32)
    labels = digits.target[order]
    train, test = slice(_NUM_TEST, None), slice(_NUM_TEST)
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


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
