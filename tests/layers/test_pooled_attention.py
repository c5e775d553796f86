"""Attention onto a pooled map; `tests/models/families/test_pvt_v2.py` compares it with timm's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax.layers.canvas import Canvas
from dwconv_jax.layers.pooled_attention import PooledAttention


@pytest.mark.parametrize(("stride", "linear"), [(1, False), (2, False), (1, True)])
def test_attention_sees_what_the_canvas_counts(rng, stride, linear):
    layer = PooledAttention(8, 2, stride=stride, linear_attention=linear, rngs=nnx.Rngs(0))
    for kernel in (layer.q.kernel, layer.kv.kernel):
        kernel.set_value(jnp.array(rng.normal(size=kernel.shape), jnp.float32))
    canvas = Canvas(jnp.array([[8, 9], [5, 6]]))
    x = canvas.clear(jnp.array(rng.normal(size=(2, 8, 9, 8)), jnp.float32))

    @jax.jit
    def apply(x):
        return layer(x, None, canvas), layer(x[1:, :5, :6])

    actual, expected = apply(x)
    np.testing.assert_allclose(actual[1, :5, :6], expected[0], atol=1e-5)
