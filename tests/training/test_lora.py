"""A run that adapts the weights of another one by low-rank products."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from dwconv_jax.convert.checkpoints import read_weights
from dwconv_jax.errors import UserError
from dwconv_jax.models import merge_lora
from dwconv_jax.training.config import validate
from dwconv_jax.training.run import prepare
from dwconv_jax.training.state import partition, take_apart


def flat(tree):
    return traverse_util.flatten_dict(jax.tree.map(np.asarray, tree))


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, str(name))


@pytest.fixture
def run(config, trained_run, tmp_path):
    _, source = trained_run
    config.init_from, config.lora_rank, config.train_only = str(source), 2, ("lora", "head")
    return prepare(config, str(tmp_path))


def test_weights_are_kept_and_read_back_with_their_products(run):
    state = run.initial_state()
    trained, frozen = map(flat, partition(state.params, run.model.trained))
    assert {path[:1] if path[0] == "head" else path[-2] for path in trained} == {("head",), "lora"}
    initial = read_weights(run.config.init_from)
    assert_same(frozen, {path: initial["/".join(map(str, path))] for path in frozen})

    # What training would do.
    params = jax.tree.map(lambda p: p + 0.1, state.params)
    with run.checkpoints() as checkpoints:
        checkpoints.save(state.replace(params=params))
    merged = merge_lora(run.model.merge(params, state.batch_stats))
    expected = {**flat(take_apart(merged)[0]), **flat(take_apart(merged)[1])}
    found = read_weights(run.workdir)
    assert found.keys() == {"/".join(map(str, path)) for path in expected}
    for path, array in expected.items():
        np.testing.assert_allclose(found["/".join(map(str, path))], array, rtol=1e-6, atol=1e-6)


def test_what_is_trained_must_be_said(config):
    config.lora_rank = 2
    with pytest.raises(UserError, match="lora_rank=2 needs train_only, which says what is trained"):
        validate(config)
