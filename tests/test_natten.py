"""NATTEN's modules, with the parameters of PyTorch's."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import convert, natten
from tests.numerics import assert_close
from tests.ops import neighborhood_reference as reference


def state_dict(rng, channels, heads, kernel_size):
    shapes = {
        "qkv.weight": (3 * channels, channels),
        "qkv.bias": (3 * channels,),
        "rpb": (heads, *(2 * k - 1 for k in kernel_size)),
        "proj.weight": (channels, channels),
        "proj.bias": (channels,),
    }
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


@pytest.mark.parametrize(
    ("module", "size", "kernel_size"),
    [
        (natten.NeighborhoodAttention1D, (7,), (3,)),
        (natten.NeighborhoodAttention2D, (5, 6), (3, 5)),
        (natten.NeighborhoodAttention3D, (2, 3, 4), (2, 3, 3)),
    ],
)
def test_modules_take_the_parameters_of_pytorchs(rng, module, size, kernel_size):
    heads, channels, axes = 2, 8, len(size)
    weights = state_dict(rng, channels, heads, kernel_size)
    layer = module(channels, heads, kernel_size, rel_pos_bias=True, rngs=nnx.Rngs(0))
    convert.load_torch(layer, weights)
    back = convert.to_torch(layer)
    assert all(np.array_equal(back[name], weight) for name, weight in weights.items())
    x = rng.normal(size=(2, *size, channels)).astype(np.float32)
    qkv = x @ weights["qkv.weight"].T + weights["qkv.bias"]
    q, k, v = np.moveaxis(qkv.reshape(2, *size, 3, heads, -1), -3, 0)
    attended, _ = reference.attend(
        q, k, v, kernel_size, (1,) * axes, (1,) * axes, ("clamp",) * axes, (False,) * axes,
        bias=weights["rpb"],
    )  # fmt: skip
    expected = attended.reshape(x.shape) @ weights["proj.weight"].T + weights["proj.bias"]
    assert_close(layer(jnp.asarray(x)), expected, 1e-5)


def test_functions_take_nattens_arguments_in_its_order(rng):
    names = [
        "query", "key", "value", "kernel_size", "stride", "dilation", "is_causal", "scale",
        "additional_keys", "additional_values", "return_lse",
    ]  # fmt: skip
    for function in (natten.na1d, natten.na2d, natten.na3d):
        assert list(inspect.signature(function).parameters) == [*names, "lowering"]
    q, k, v = (rng.normal(size=(1, 6, 2, 4)).astype(np.float32) for _ in range(3))
    out, lse = natten.na1d(q, k, v, 3, 2, 2, True, 0.7, return_lse=True)
    wanted, wanted_lse = reference.attend(q, k, v, (3,), (2,), (2,), ("clamp",), (True,), scale=0.7)
    assert_close(out, wanted, 1e-5)
    assert_close(lse, wanted_lse, 1e-5)
    with pytest.raises(ValueError, match="query of na2d must have 5 axes"):
        natten.na2d(q, k, v, 3)


def test_sizes_may_be_lists():
    one, other = (natten.NeighborhoodAttention2D(8, 2, k, rngs=nnx.Rngs(0)) for k in (3, [3, 3]))
    assert one.connectivity == other.connectivity


def test_dropout_follows_the_mode():
    layer = natten.NeighborhoodAttention1D(8, 2, 3, attn_drop=0.5, proj_drop=0.5, rngs=nnx.Rngs(0))
    x = jnp.ones((1, 5, 8))
    assert jnp.array_equal(layer(x), layer(x))
    layer.train()
    assert not jnp.array_equal(layer(x), layer(x))


def test_modules_train(rng, emitters):
    layer = natten.NeighborhoodAttention2D(8, 2, 3, dilation=2, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(size=(1, 6, 7, 8)), jnp.bfloat16)
    graph, params, rest = nnx.split(layer, nnx.Param, ...)

    def loss(params):
        y = nnx.merge(graph, params, rest)(x)
        return jnp.square(y).sum(), y

    step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=emitters)
    grads, y = step(params)
    assert y.dtype == jnp.bfloat16
    assert all(jnp.isfinite(g).all() and g.any() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 3, 3), "num_heads=3 must divide the 8 channels"),
        ((8, 2, (3, 3, 3)), "kernel_size must have 2 entries"),
        ((8, 2, 3, 4), "stride=.* must be at most kernel_size"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        natten.NeighborhoodAttention2D(*arguments, rngs=nnx.Rngs(0))


def test_a_lowering_reaches_attention():
    layer = natten.NeighborhoodAttention2D(8, 2, 3, 2, lowering="cuda", rngs=nnx.Rngs(0))
    q = jnp.ones((1, 4, 4, 2, 8))
    for call in (
        lambda: layer(jnp.ones((1, 4, 4, 8))),
        lambda: natten.na2d(q, q, q, 3, 2, lowering="cuda"),
    ):
        with pytest.raises(ValueError, match=r"no kernel for attention over Sliding.*stride"):
            call()
    with pytest.raises(ValueError, match=r"attn_drop=0.1 needs lowering='auto', got 'cuda'"):
        natten.NeighborhoodAttention2D(8, 2, 3, attn_drop=0.1, lowering="cuda", rngs=nnx.Rngs(0))


def test_wrong_inputs_are_named():
    layer = natten.NeighborhoodAttention2D(8, 2, 5, dilation=2, rngs=nnx.Rngs(0))
    for shape, message in [
        ((1, 12, 12, 4), "x must have 8 channels"),
        ((1, 12, 9, 8), r"got 5 \* 2 on an axis of 9"),
        ((1, 12, 8), r"floating \[B, H, W, C\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(jnp.zeros(shape))
