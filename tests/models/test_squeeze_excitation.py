"""Squeeze-excitation as a gate in either block."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import dwconv_jax
from dwconv_jax.layers import Canvas, SqueezeExcitation
from dwconv_jax.models import multiply_adds
from tests.numerics import assert_close


def test_the_gate_is_that_of_the_equation(rng):
    gate = SqueezeExcitation(8, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 8)), jnp.float32)
    hidden = jax.nn.relu(gate.squeeze(x.mean((1, 2))))
    assert hidden.shape == (2, 2)
    expected = x * jax.nn.sigmoid(gate.excite(hidden))[:, None, None]
    assert_close(gate(x), expected, 1e-6)
    # On a canvas, what lies beyond a map's extent does not count.
    canvas = jnp.pad(x, ((0, 0), (0, 2), (0, 1), (0, 0)), constant_values=9.0)
    assert_close(gate(canvas, Canvas(jnp.array([[3, 4]] * 2)))[:, :3, :4], expected, 1e-6)


@pytest.mark.parametrize("name", ["dwnet_tiny", "swin_tiny"])
def test_either_block_takes_a_gate(name):
    heads = dict(num_heads=2) if name == "swin_tiny" else {}

    def build(**options):
        return dwconv_jax.create_model(
            name, embed_dim=12, depths=(1, 1), **heads, rngs=nnx.Rngs(0), **options
        )

    gated = nnx.eval_shape(lambda: build(squeeze_excitation=True))
    plain = nnx.eval_shape(build)

    def size(model):
        return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))

    # C -> C / 4 -> C with biases, for 12 and 24 channels.
    assert size(gated) - size(plain) == (2 * 12 * 3 + 15) + (2 * 24 * 6 + 30)
    assert multiply_adds(gated, 28) - multiply_adds(plain, 28) == 2 * 12 * 3 + 2 * 24 * 6
    with pytest.raises(ValueError, match="has no squeeze-excitation"):
        dwconv_jax.convert.to_torch(gated)


def test_multiply_adds_of_sliding_attention():
    layer = nnx.eval_shape(
        lambda: dwconv_jax.LocallyConnected(
            8, kernel_size=3, dynamic="attention", groups=2, rngs=nnx.Rngs(0)
        )
    )
    projections = 8 * 24 + 8 * 8
    # Each of 5x5 positions: products of 9 keys with the query, and 9 values weighted.
    assert multiply_adds(layer, 5, in_channels=8) == 25 * (projections + 2 * 9 * 8)
