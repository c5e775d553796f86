"""Published networks against their original code.

`tests/golden/generate/record.py` writes what a file `zoo_*` holds: weights under `param/`, two
`input/`s ("even" and "odd") with the maps and logits of their evaluation under `eval/`, and of a
training step on the odd one `train/`, `grad/` and `stats/`.
"""

import functools
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from dwconv_jax.convert import load_torch, to_torch
from dwconv_jax.models.classifier import Classifier
from tests import golden


def check_golden(name: str, make: Callable[[], Classifier]) -> None:
    """Compares all that `zoo_<name>` holds with the model that `make` makes.

    The round trip of its weights is exact and in order; evaluation, training and gradients are
    within the tolerances of whole models.
    """
    expected = golden.load(f"zoo_{name}")
    weights = expected.under("param")
    model = load_torch(nnx.eval_shape(make), weights)
    check_round_trip(model, weights)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    actual = compute(graph, params, rest, expected.under("input"), expected["labels"])
    for shape, maps in actual["eval"].items():
        golden.assert_golden(maps, expected.under(f"eval/{shape}"), 1e-4)
    golden.assert_golden(actual["train"], expected.under("train"), 1e-4)
    golden.assert_golden(in_torch_layout(model, actual["stats"]), expected.under("stats"), 1e-4)
    check_gradients(in_torch_layout(model, actual["grad"]), expected.under("grad"))


def check_round_trip(model, weights):
    written = to_torch(model)
    assert list(written) == list(weights)
    for name, array in weights.items():
        assert written[name].dtype == array.dtype, name
        np.testing.assert_array_equal(written[name], array, name)


def check_gradients(actual, expected):
    # What only shifts the input of a norm has no gradient but rounding errors.
    zero = [name for name, array in expected.items() if np.abs(array).max() < 1e-12]
    for name in zero:
        assert np.abs(actual[name]).max() < 1e-5, name
    rest = {name: array for name, array in expected.items() if name not in zero}
    golden.assert_golden(actual, rest, 1e-3)


def in_torch_layout(model, state):
    """Gradients or statistics under PyTorch's names, in its shapes."""
    holder = nnx.clone(model)
    nnx.update(holder, state)
    return to_torch(holder)


@functools.partial(jax.jit, static_argnums=0)
def compute(graph, params, rest, inputs, labels):
    """Everything that a golden file holds of a model, in one program."""

    def evaluate(images):
        model = nnx.merge(graph, params, rest)
        maps = model.features(images)
        # Traced and compiled once, for the logits too.
        with mock.patch.object(type(model), "features", lambda *_: maps):
            logits = model(images)
        return {"logits": logits} | {f"stage{i}": x for i, x in enumerate(maps)}

    def training_loss(params):
        model = nnx.merge(graph, params, rest, copy=True)
        logits = model(inputs["odd"], train=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (logits, nnx.state(model, nnx.BatchStat))

    (loss, (logits, stats)), grads = jax.value_and_grad(training_loss, has_aux=True)(params)
    return {
        "eval": {shape: evaluate(jnp.asarray(images)) for shape, images in inputs.items()},
        "train": {"loss": loss, "logits": logits},
        "stats": stats,
        "grad": grads,
    }
