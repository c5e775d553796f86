"""Programs exported for maps of any size."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from dwconv_jax import ops
from tests.numerics import assert_close


@pytest.mark.parametrize(
    ("connectivity", "weights_shape"),
    [
        (ops.Sliding(3), (1, 1, 1, 9, 4)),
        (ops.Sliding(3), ("b", 1, 1, 9, 4)),
        (ops.Sliding(3), ("b", "h*w", 1, 9, 2)),
        (ops.Sliding((4, 3), causal=(True, False)), (1, 1, 1, 12, 4)),
        (ops.Window(4, shift=1), (1, 1, 16, 16, 2)),
    ],
    ids=str,
)
def test_the_operator_exports_for_any_size(rng, connectivity, weights_shape):
    def operator(x, weights):
        return ops.locally_connected(x, weights, connectivity)

    scope = export.SymbolicScope()
    shapes = [
        export.symbolic_shape(",".join(map(str, shape)), scope=scope)
        for shape in (("b", "h", "w", 4), weights_shape)
    ]
    types = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    exported = export.export(jax.jit(operator))(*types)
    sizes = {"b": 2, "h*w": 35}
    x, weights = (
        jnp.array(rng.normal(size=[sizes.get(n, n) for n in shape]), jnp.float32)
        for shape in ((2, 5, 7, 4), weights_shape)
    )
    assert_close(exported.call(x, weights), operator(x, weights), 1e-6)
