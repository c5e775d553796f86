"""Rematerialisation changes neither gradients nor statistics, and keeps less for the backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import create_model
from tests.numerics import assert_close

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8, 8, 3)), jnp.float32)


def training_loss(remat):
    """A function of the parameters, and these; it returns batch statistics too."""
    model = create_model(
        "dynamic_dwnet_tiny", embed_dim=8, depths=(2,), num_classes=5, patch_size=1, window_size=3,
        drop_path_rate=0.3, remat=remat, rngs=nnx.Rngs(0),
    )  # fmt: skip
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters):
        model = nnx.merge(graph, parameters, rest, copy=True)
        logits = model(IMAGES, train=True, rngs=nnx.Rngs(dropout=1))
        return jnp.square(logits).sum(), nnx.state(model, nnx.BatchStat)

    return loss, parameters


def test_gradients_and_statistics_are_the_same():
    def everything(remat):
        loss, parameters = training_loss(remat)
        gradients, statistics = jax.jit(jax.grad(loss, has_aux=True))(parameters)
        return gradients, statistics

    (gradients, statistics), expected = everything(True), everything(False)
    assert_close(flat(gradients), flat(expected[0]), 1e-5)
    assert_close(flat(statistics), flat(expected[1]), 1e-6)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_only_the_inputs_of_blocks_are_kept():
    kept = []
    for remat in (False, True):
        loss, parameters = training_loss(remat)
        backward = jax.eval_shape(
            lambda p, loss=loss: jax.vjp(loss, p, has_aux=True)[1], parameters
        )
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(backward)))
    assert kept[1] < kept[0] / 3


def test_one_value_or_one_for_each_stage():
    with pytest.raises(ValueError, match=r"remat=.* one for each of 4 stages"):
        create_model("dwnet_tiny", embed_dim=8, remat=(True, False), rngs=nnx.Rngs(0))
