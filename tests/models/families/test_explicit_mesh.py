"""Families whose layers reshape maps can be trained on a mesh with explicit axes."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax.models import create_model


@pytest.mark.parametrize("name", ["cswin_tiny_224", "pvt_v2_b0", "maxvit_tiny_tf_224"])
def test_a_training_step_is_traced(name):
    model = nnx.eval_shape(
        lambda: create_model(name, depths=(1, 1, 1, 1), num_classes=3, rngs=nnx.Rngs(0))
    )
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    images = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32, sharding=sharding)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, rest, images):
        return nnx.merge(graph, params, rest, copy=True)(images, train=True).mean()

    with jax.set_mesh(mesh):
        gradients = jax.eval_shape(jax.grad(loss), params, rest, images)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)
