"""Images split over devices, on meshes with automatic and with explicit axes."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax import ops
from tests.numerics import assert_close


def mix(x, weights, connectivity):
    return ops.locally_connected(x, weights, connectivity)


def attend(x, weights, connectivity):
    del weights
    heads = x.reshape(*x.shape[:-1], 2, 2)
    return ops.neighborhood_attention(
        heads, heads, heads, connectivity.kernel_size, stride=connectivity.stride,
        border=connectivity.border, additional_keys=heads[:, 0, :2],
        additional_values=heads[:, 1, :2],
    )  # fmt: skip


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(
    ("operator", "connectivity"),
    [
        (mix, ops.Sliding(3, border="clamp")),
        (mix, ops.Sliding(4, stride=2, causal=(True, False))),
        (mix, ops.Grid(3)),
        (attend, ops.Sliding(3, stride=2, border=("clamp", "wrap"))),
    ],
)
def test_devices_do_what_one_does(rng, operator, connectivity, axis_type):
    _, outputs, seen = connectivity.block_shape(6, 6)
    x = jnp.array(rng.normal(size=(8, 6, 6, 4)), jnp.float32)
    weights = jnp.array(rng.normal(size=(8, 1, outputs, seen, 2)), jnp.float32)

    @functools.partial(jax.jit, static_argnums=2)
    def value_and_gradients(x, weights, connectivity):
        y, pullback = jax.vjp(lambda x, w: operator(x, w, connectivity), x, weights)
        return y, *pullback(jnp.cos(y))

    expected = value_and_gradients(x, weights, connectivity)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    images = NamedSharding(mesh, PartitionSpec("data"))
    with jax.set_mesh(mesh):
        split = jax.device_put((x, weights), images)
        actual = value_and_gradients(*split, connectivity)
    assert actual[0].sharding.spec[0] == "data"
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, 1e-5)
