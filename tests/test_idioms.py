"""Idioms of Flax NNX that users bring work for layers and models."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import dwconv_jax
from dwconv_jax import LocallyConnected
from tests.numerics import assert_close

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


def program(model, images, train):
    """The program of a call, which returns its output and the statistics after it."""
    graph, state = nnx.split(model)

    @jax.jit
    def call(state):
        model = nnx.merge(graph, state)
        return model(images, train=train, rngs=nnx.Rngs(2)), nnx.state(model, nnx.BatchStat)

    return call.lower(state).as_text()


def assert_same(a, b):
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_models_follow_train_and_eval(name, images):
    model = make(name, drop_path_rate=0.5)
    training, evaluation = program(model, images, True), program(model, images, False)
    assert training != evaluation
    assert program(model, images, None) == evaluation
    model.train()
    assert program(model, images, None) == training
    assert program(model, images, False) == evaluation
    model.eval()
    assert program(model, images, None) == evaluation
    assert program(model, images, True) == training


def test_rematerialized_blocks_follow_train(images):
    model = make("dynamic_dwnet_tiny", remat=True)
    training = program(model, images, True)
    model.train()
    assert program(model, images, None) == training


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


def test_segmentation_models_keep_keys_for_dropout(images):
    model = make("upernet_dwnet_tiny", dropout_rate=0.5)
    model.train()
    assert not np.array_equal(model(images), model(images))
    assert_same(model(images, rngs=nnx.Rngs(1)), model(images, rngs=nnx.Rngs(1)))


@pytest.mark.parametrize("name", MODELS)
def test_models_keep_the_dtype_of_images(name, images):
    def maps():
        return make(name).features(images.astype(jnp.bfloat16), train=True)

    assert {m.dtype for m in jax.eval_shape(maps)} == {jnp.dtype("bfloat16")}


SOURCES = {
    "none": {},
    "pooled": dict(dynamic="pooled"),
    "centre": dict(dynamic="centre", groups=4),
    "window attention": dict(connectivity="window", dynamic="attention", groups=4),
    "sliding attention": dict(dynamic="attention", groups=4),
}
SPLITS = {
    "batch": P("data"),
    "batch and channels": P("data", None, None, "other"),
    "batch and rows": P("data", "other"),
}


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("source", SOURCES)
def test_layers_work_on_any_mesh(source, kind, rng):
    layer = LocallyConnected(8, **(dict(kernel_size=3) | SOURCES[source]), rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)
    x = jnp.array(rng.normal(size=(4, 8, 8, 8)), jnp.float32)

    @jax.jit
    def output_and_gradient(state, x):
        y, pullback = jax.vjp(lambda x: nnx.merge(graph, state, copy=True)(x, train=True), x)
        return y, *pullback(jnp.sin(y))

    expected = output_and_gradient(state, x)
    mesh = jax.make_mesh((4, 2), ("data", "other"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        for name, split in SPLITS.items():
            actual = output_and_gradient(state, jax.device_put(x, split))
            for a, e in zip(actual, expected, strict=True):
                assert_close(jax.device_get(a), jax.device_get(e), 1e-5, name)
                if kind == AxisType.Explicit:
                    assert a.sharding.spec[0] == "data"


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_works_on_an_explicit_mesh(name, rng):
    model = make(name)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    images = jnp.array(rng.normal(size=(8, 16, 16, 3)), jnp.float32)

    @jax.jit
    def step(params, images):
        def loss_of(params):
            model = nnx.merge(graph, params, rest, copy=True)
            logits = model(images, train=True, rngs=nnx.Rngs(1))
            return jnp.square(logits).mean(), nnx.state(model, nnx.BatchStat)

        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return loss, statistics, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)

    expected = jax.device_get(step(params, images))
    with jax.set_mesh(jax.make_mesh((8,), ("data",))):
        actual = jax.device_get(step(params, jax.device_put(images, P("data"))))
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def make_layer(source, rngs):
    return LocallyConnected(8, **(dict(kernel_size=3) | SOURCES[source]), rngs=rngs)


@pytest.fixture
def x(rng):
    return jnp.array(rng.normal(size=(4, 6, 6, 8)), jnp.float32)


@pytest.mark.parametrize("source", SOURCES)
def test_layers_can_be_tabulated(source, x, tabulate):
    layer = make_layer(source, nnx.Rngs(0))
    assert type(layer.source).__name__ in tabulate(layer, x)
    assert layer(x).shape == x.shape


@pytest.mark.parametrize("name", MODELS)
def test_models_can_be_tabulated(name, images, tabulate):
    model = make(name)
    assert "LocallyConnected" in tabulate(model, images)
    jax.eval_shape(lambda: make(name)(images))


@pytest.mark.parametrize("source", SOURCES)
def test_layers_stack_by_vmap_and_run_by_scan(source, x):
    layers = nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: make_layer(source, rngs)))(nnx.Rngs(0))
    single = [jax.tree.map(lambda leaf, i=i: leaf[i], nnx.state(layers)) for i in range(2)]
    graph = nnx.graphdef(layers)

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(layer, x):
        return layer(x, train=True)

    expected = x
    for state in single:
        expected = nnx.merge(graph, state)(expected, train=True)
    assert_close(nnx.jit(run)(layers, x), expected, 1e-5)


def assert_same_state(twin, model):
    twin, model = (nnx.state(m, nnx.Not(nnx.RngKey)) for m in (twin, model))
    jax.tree.map(np.testing.assert_array_equal, twin, model)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("source", SOURCES)
def test_layers_can_be_copied_and_pickled(source, copied, x):
    layer = make_layer(source, nnx.Rngs(0))
    twin = copied(layer)
    assert nnx.graphdef(twin) == nnx.graphdef(layer)
    assert_same_state(twin, layer)


@pytest.mark.parametrize("name", MODELS)
def test_models_can_be_copied_and_pickled(name):
    model = make(name, drop_path_rate=0.5)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert nnx.graphdef(twin) == nnx.graphdef(model)
        assert_same_state(twin, model)


@pytest.mark.parametrize("source", SOURCES)
def test_layers_can_be_saved_with_orbax(source, tmp_path):
    layer = make_layer(source, nnx.Rngs(0))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "layer", nnx.state(layer))
        checkpointer.wait_until_finished()
        abstract = nnx.eval_shape(lambda: make_layer(source, nnx.Rngs(1)))
        graph, state = nnx.split(abstract)
        restored = nnx.merge(graph, checkpointer.restore(tmp_path / "layer", state))
    assert_same_state(restored, layer)
