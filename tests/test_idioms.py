"""Idioms of Flax NNX that users bring work for layers and models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax import LocallyConnected

TINY = dict(embed_dim=8, depths=(1, 1), num_classes=3, window_size=3)
MODELS = {
    "dynamic_dwnet_tiny": {},
    "swin_tiny": dict(num_heads=(1, 2)),
    "upernet_dwnet_tiny": dict(head_features=4, auxiliary_features=4, depths=(1, 1, 1, 1)),
}


def make(name, **overrides):
    return dwconv_jax.create_model(
        name, **(TINY | MODELS[name] | overrides), rngs=nnx.Rngs(0, dropout=1)
    )


@pytest.fixture
def images(rng):
    return jnp.array(rng.normal(size=(4, 16, 16, 3)), jnp.float32)


def results(model, images, train):
    """Output and statistics after a call, under the same keys."""
    graph, state = nnx.split(model)

    @jax.jit
    def call(state):
        model = nnx.merge(graph, state)
        return model(images, train=train, rngs=nnx.Rngs(2)), nnx.state(model, nnx.BatchStat)

    return jax.tree.leaves(call(state))


def assert_same(a, b):
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_models_follow_train_and_eval(name, images):
    model = make(name, drop_path_rate=0.5)
    training, evaluation = results(model, images, True), results(model, images, False)
    assert any(not np.array_equal(x, y) for x, y in zip(training, evaluation, strict=True))
    assert_same(results(model, images, None), evaluation)
    model.train()
    assert_same(results(model, images, None), training)
    assert_same(results(model, images, False), evaluation)
    model.eval()
    assert_same(results(model, images, None), evaluation)
    assert_same(results(model, images, True), training)


def test_rematerialized_blocks_follow_train(images):
    model = make("dynamic_dwnet_tiny", remat=True)
    training = results(model, images, True)
    model.train()
    assert_same(results(model, images, None), training)


@pytest.mark.parametrize("dynamic", ["pooled", "centre"])
def test_layers_follow_train(dynamic, rng):
    layer = LocallyConnected(8, kernel_size=3, dynamic=dynamic, rngs=nnx.Rngs(0))
    x = jnp.array(rng.normal(size=(4, 5, 5, 8)), jnp.float32)
    layer(x)
    assert not layer.source.norm.mean[...].any()
    layer.train()
    nnx.jit(lambda layer, x: layer(x))(layer, x)
    assert layer.source.norm.mean[...].all()


def test_norms_can_be_frozen_while_the_rest_trains(images):
    model = make("dynamic_dwnet_tiny", drop_path_rate=0.5)
    model.train()
    model.set_attributes(dwconv_jax.layers.BatchNorm, use_running_average=True)
    before = jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    first, second = model(images), model(images)
    assert_same(before, jax.tree.leaves(nnx.state(model, nnx.BatchStat)))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", MODELS)
def test_models_keep_the_dtype_of_images(name, images):
    def maps():
        return make(name).features(images.astype(jnp.bfloat16), train=True)

    assert {m.dtype for m in jax.eval_shape(maps)} == {jnp.dtype("bfloat16")}
