"""The Linen face works inside a Linen parent, training mode included."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import dwconv_jax
from tests.numerics import assert_close


class Parent(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(8)(x)
        x = dwconv_jax.linen.LocallyConnected(8, kernel_size=3, dynamic="pooled", name="mixer")(
            x, train=train
        )
        return nn.Dense(2)(x.mean((1, 2)))


def test_trees_are_clean():
    layer = dwconv_jax.linen.LocallyConnected(8, kernel_size=3, dynamic="pooled")
    variables = layer.init(jax.random.key(0), jnp.ones((2, 5, 5, 8)))
    assert set(variables) == {"params", "batch_stats"}
    assert set(variables["params"]["source"]) == {"squeeze", "norm", "predict"}
    assert set(variables["batch_stats"]["source"]["norm"]) == {"mean", "var"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))


def test_names_in_a_parent_are_those_of_the_classes():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = dwconv_jax.linen.LocallyConnected(3, kernel_size=3)(x)
            x = dwconv_jax.linen.LocallyConnected(3, kernel_size=3)(x)
            x = dwconv_jax.linen.DepthwiseConv(3, kernel_size=3)(x)
            return dwconv_jax.linen.create_model(
                "dwnet_tiny", embed_dim=4, depths=(1,), num_classes=2
            )(x)

    shapes = jax.eval_shape(Two().init, jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    assert set(shapes["params"]) == {
        "LocallyConnected_0", "LocallyConnected_1", "DepthwiseConv_0", "Classifier_0"
    }  # fmt: skip


def test_a_parent_trains():
    x = jax.random.normal(jax.random.key(1), (8, 5, 5, 3))
    labels = (x.mean((1, 2, 3)) > 0).astype(int)
    parent = Parent()
    variables = parent.init(jax.random.key(0), x, train=False)
    tx = optax.adam(1e-2)
    opt_state = tx.init(variables["params"])

    @jax.jit
    def step(variables, opt_state):
        def loss(params):
            logits, updates = parent.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates

        (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        changes, opt_state_ = tx.update(grads, opt_state)
        params = optax.apply_updates(variables["params"], changes)
        return {"params": params, **updates}, opt_state_, value

    before = variables["batch_stats"]["mixer"]["source"]["norm"]["mean"]
    losses = []
    for _ in range(30):
        variables, opt_state, value = step(variables, opt_state)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
    assert not np.array_equal(before, variables["batch_stats"]["mixer"]["source"]["norm"]["mean"])


def test_depthwise_conv_has_a_linen_face():
    x = jnp.ones((1, 5, 5, 8))
    y, variables = dwconv_jax.linen.DepthwiseConv(8, kernel_size=3).init_with_output(
        jax.random.key(0), x
    )
    assert y.shape == x.shape and set(variables["params"]) == {"kernel", "bias"}


def test_models_agree_with_nnx():
    overrides = dict(embed_dim=8, depths=(1, 1), num_classes=3)
    linen_model = dwconv_jax.linen.create_model("dwnet_tiny", **overrides)
    images = jax.random.normal(jax.random.key(2), (1, 16, 16, 3))
    variables = linen_model.init(jax.random.key(0), images)

    from flax import nnx

    model = dwconv_jax.create_model("dwnet_tiny", **overrides, rngs=nnx.Rngs(1))
    nnx.update(model, nnx.State(variables["params"]))
    assert_close(linen_model.apply(variables, images), model(images), 1e-6)
