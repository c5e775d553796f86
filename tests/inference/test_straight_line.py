"""Straight-line programs compute the same, by plain operations alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export, lax

import dwconv_jax
from dwconv_jax.inference.gathered import gather_neighborhoods
from dwconv_jax.inference.program import any_batch, from_pixels
from dwconv_jax.inference.straight_line import straight_line
from dwconv_jax.layers import LocallyConnected
from tests.models.test_fold import TINY
from tests.numerics import assert_close


def names(function, *arguments):
    return {e.primitive.name for e in jax.make_jaxpr(function)(*arguments).jaxpr.eqns}


def awkward(x):
    """Calls, loops, a platform's choice, pooling, and a part that does not depend on `x`."""
    table = jnp.sin(jnp.arange(6.0)).reshape(3, 2)

    def step(total, row):
        seen = lax.dynamic_slice_in_dim(x, row[0].astype(int), 2, axis=1)
        return total + seen * row[1], jax.nn.relu(seen)

    rows = jnp.stack([jnp.arange(3.0), table[:, 0]], axis=1)
    total, seen = lax.scan(jax.checkpoint(step), jnp.zeros((x.shape[0], 2)), rows)
    _, backwards = lax.scan(step, total, rows, reverse=True)
    padded = jnp.pad(total, ((0, 0), (1, 2)))
    chosen = lax.platform_dependent(padded, cpu=lambda y: y + 0, default=lambda y: y * 1)
    pooled = nnx.max_pool(jnp.expand_dims(x, 2), (3,), (2,), ((1, 1),)).squeeze(2)
    return jnp.concatenate([chosen, *seen, *backwards, pooled], axis=1)


def test_an_awkward_function_becomes_a_plain_one(rng):
    symbolic = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), 4), jnp.float32)
    plain = straight_line(awkward, symbolic)
    x = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    assert_close(export.export(jax.jit(plain))(symbolic).call(x), jax.jit(awkward)(x), 1e-6)
    assert names(plain, symbolic) <= {
        "add", "broadcast_in_dim", "concatenate", "dim_as_value", "expand_dims", "max", "mul",
        "reshape", "slice", "squeeze",
    }  # fmt: skip


@pytest.mark.parametrize("dynamic", ["pooled", "centre"])
def test_models_become_plain_programs(dynamic, rng):
    options = TINY | dict(mixer=dict(dynamic=dynamic))
    model = dwconv_jax.create_model("dwnet_tiny", **options, rngs=nnx.Rngs(0))
    predict = from_pixels(model, mean=(0.5,), std=(0.2,))
    gathered = from_pixels(gather_neighborhoods(model), mean=(0.5,), std=(0.2,))
    plain = straight_line(gathered, any_batch((10, 10, 3)))
    pixels = rng.integers(0, 256, (2, 10, 10, 3), dtype=np.uint8)
    found = export.export(jax.jit(plain))(any_batch((10, 10, 3))).call(pixels)
    assert_close(found, jax.jit(predict)(pixels), 1e-5)
    calls = {"scan", "while", "cond", "jit", "ffi_call", "platform_index", "checkpoint", "remat2"}
    assert not names(plain, any_batch((10, 10, 3))) & calls


@pytest.mark.parametrize(
    "flags",
    [
        dict(dynamic="attention", border="clamp"),
        dict(dynamic="attention", kernel_size=6, stride=2),
        dict(dynamic="centre"),
        dict(share_positions=False, map_size=(5, 6)),
    ],
    ids=str,
)
def test_gathered_layers_equal_their_own(flags, rng):
    options = dict(kernel_size=3, groups=2) | flags
    layer = LocallyConnected(4, **options, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 4)), jnp.float32)
    copy = gather_neighborhoods(layer)
    assert type(copy.connectivity) is not type(layer.connectivity)
    found, expected = jax.jit(lambda x: (copy(x), layer(x)))(x)
    assert_close(found, expected, 1e-5)
