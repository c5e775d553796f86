"""A connectivity and a weight source defined outside of the package work wherever names do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax import LocallyConnected, ops
from dwconv_jax.layers import WHOLE
from dwconv_jax.layers.weights import Traits
from dwconv_jax.ops import dispatch
from dwconv_jax.ops.lowerings import gather
from tests.numerics import assert_close

MAP, CHANNELS = (4, 6), 8


@dataclasses.dataclass(frozen=True)
class Rows(ops.Connectivity):
    """Every position sees its own row."""

    def block_shape(self, height, width):
        return height, width, width

    def outputs(self, height, width):
        return np.arange(height * width).reshape(height, width)

    def neighbours(self, height, width):
        return np.repeat(self.outputs(height, width)[:, None], width, axis=1)


@dataclasses.dataclass(frozen=True)
class Cross(ops.Connectivity):
    """Every position sees itself and its four neighbors: blocks of one output."""

    fixed_blocks = True

    def block_shape(self, height, width):
        return height * width, 1, 5

    def outputs(self, height, width):
        return np.arange(height * width)[:, None]

    def neighbours(self, height, width):
        seen = ops.Sliding(3).neighbours(height, width)
        return seen[..., [1, 3, 4, 5, 7]]


class MixtureWeights(nnx.Module):
    """A convex combination of learned kernels, one for each image."""

    traits = Traits(bias_init=lambda taps: nnx.initializers.zeros)

    def __init__(self, spec, *, experts=4, rngs):
        shape = spec.shape()
        kernels = jax.random.normal(rngs.params(), (experts, *shape), spec.param_dtype)
        self.kernels = nnx.Param(kernels / spec.taps)
        self.gate = nnx.Linear(spec.features, experts, rngs=rngs, **spec.dtypes)

    def __call__(self, x, train, canvas):
        shares = jax.nn.softmax(self.gate(canvas.mean(x)))
        return jnp.einsum("be,e...->b...", shares, self.kernels[...].astype(x.dtype)), x


def features(rng):
    return jnp.array(rng.normal(size=(2, *MAP, CHANNELS)), jnp.float32)


@pytest.mark.parametrize("connectivity", [Rows(), Cross(), ops.Sliding(3), ops.Window(4, 1)])
@pytest.mark.parametrize("dynamic", ["none", "pooled", "centre", "attention", MixtureWeights])
def test_layers_of_them_equal_the_definition(connectivity, dynamic, rng):
    layer = LocallyConnected(
        CHANNELS, connectivity=connectivity, dynamic=dynamic, groups=2, map_size=MAP,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    graph, state = nnx.split(layer)

    def lowered(state, x):
        return nnx.merge(graph, state, copy=True)(x)

    def defined(state, x):
        layer = nnx.merge(graph, state, copy=True)
        weights, values = layer.source(x, False, WHOLE)
        y = ops.definition.locally_connected(values, weights, layer.connectivity)
        y = y if layer.bias is None else y + layer.bias[...][None, None, None]
        return y if layer.proj is None else layer.proj(y)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, state, x):
        y, pullback = jax.vjp(function, state, x)
        return y, *pullback(jnp.cos(y))

    x = features(rng)
    actual = value_and_gradients(lowered, state, x)
    expected = value_and_gradients(defined, state, x)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(a, e, 1e-5)


@pytest.mark.parametrize(
    "connectivity",
    [
        ops.Sliding((3, 5), 2),
        ops.Sliding(3, stride=2, border=("clamp", "wrap"), causal=(True, False)),
        ops.Window(4, 1),
        ops.Grid(2),
        ops.Global(),
    ],
    ids=str,
)
def test_gathering_is_any_lowering(connectivity, rng):
    q, k = features(rng).reshape(2, *MAP, 2, 4), features(rng).reshape(2, *MAP, 2, 4)
    own = dispatch.strategy_of(connectivity)
    hidden = connectivity.hidden(*MAP)
    seen = True if hidden is None else ~hidden[None, :, None]
    logits = [jnp.where(seen, of(q, k, connectivity), 0) for of in (gather.logits, own.logits)]
    assert_close(*logits, 1e-5)
    flat = q.reshape(2, *MAP, CHANNELS)
    assert_close(gather.partition(flat, connectivity), own.partition(flat, connectivity), 0)
    _, outputs, seen = connectivity.block_shape(*MAP)
    weights = jnp.array(rng.normal(size=(2, 1, outputs, seen, 4)), jnp.float32)
    x = features(rng)
    expected = ops.definition.locally_connected(x, weights, connectivity)
    assert_close(gather.mix(x, weights, connectivity), expected, 1e-5)


@dataclasses.dataclass(frozen=True)
class FastRows(Rows):
    """Rows with a lowering of their own."""


def test_a_registered_lowering_is_used(rng):
    calls = []

    def mix(x, weights, connectivity):
        calls.append(connectivity)
        return gather.mix(x, weights, connectivity)

    dispatch.register(FastRows, dispatch.strategy_of(FastRows())._replace(mix=mix))
    weights = jnp.ones((1, 1, MAP[1], MAP[1], 1))
    x = features(rng)
    assert_close(
        ops.locally_connected(x, weights, FastRows()), x.sum(2, keepdims=True) + 0 * x, 1e-5
    )
    assert calls == [FastRows()]


def small_model(**mixer):
    return dwconv_jax.create_model(
        "dwnet_tiny", mixer=mixer, image_size=16, embed_dim=8, depths=(1, 1), num_classes=3,
        rngs=nnx.Rngs(0),
    )  # fmt: skip


def test_a_whole_model_of_them_trains():
    model = small_model(connectivity=Rows(), dynamic=functools.partial(MixtureWeights, experts=3))
    assert model.stages[1].blocks[0].mixer.map_size == (2, 2)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    images = jax.random.normal(jax.random.key(0), (6, 16, 16, 3))
    labels = jnp.arange(6) % 3

    @nnx.jit
    def step(model, optimizer):
        def loss_of(model):
            logits = model(images, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss, grads

    first, grads = step(model, optimizer)
    kernels = grads["stages"][0]["blocks"][0]["mixer"]["source"]["kernels"][...]
    assert kernels.shape == (3, 1, 4, 4, 8) and bool(jnp.abs(kernels).max() > 0)
    for _ in range(10):
        last, _ = step(model, optimizer)
    assert last < first


def test_linen_takes_them(rng):
    layer = dwconv_jax.linen.LocallyConnected(
        CHANNELS, connectivity=Rows(), dynamic=MixtureWeights, map_size=MAP
    )
    x = features(rng)
    variables = layer.init(jax.random.key(0), x)
    assert "kernels" in variables["params"]["source"]
    assert layer.apply(variables, x).shape == x.shape


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match=r"map_size must be \(H, W\), got None: connectivity=Rows"):
        LocallyConnected(8, connectivity=Rows(), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"or a subclass of ops\.Connectivity, got 3"):
        LocallyConnected(8, connectivity=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="shift=1 needs connectivity='window', got Cross"):
        LocallyConnected(8, connectivity=Cross(), shift=1, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"kernels for sliding connectivity.* got Cross"):
        LocallyConnected(8, connectivity=Cross(), lowering="pallas", rngs=nnx.Rngs(0))
