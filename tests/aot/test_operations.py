"""Arithmetic counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from dwconv_jax import ops
from dwconv_jax.aot.operations import Operations, count_operations


def counted(function, *arguments):
    return count_operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def depthwise(x):
    return ops.depthwise_conv(x, jnp.ones((3, 3, 6)))


def dense_convolution(x):
    return lax.conv_general_dilated(
        x, jnp.ones((3, 3, 6, 5)), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


IMAGES = jnp.ones((2, 8, 8, 6))
SQUARE = jnp.ones((4, 4))


@pytest.mark.parametrize(
    ("function", "argument", "expected"),
    [
        (lambda x: x @ x, SQUARE, Operations(matrix=2 * 4**3)),
        (lambda x: jnp.exp(x) + 1, SQUARE, Operations(vector=32)),
        (lambda x: x.sum(), SQUARE, Operations(vector=16)),
        (lambda x: x.T.reshape(2, 8), SQUARE, Operations()),
        (depthwise, IMAGES, Operations(vector=2 * 2 * 8 * 8 * 6 * 9)),
        (dense_convolution, IMAGES, Operations(matrix=2 * 2 * 4 * 4 * 5 * 6 * 9)),
        (lambda x: lax.fori_loop(0, 7, lambda i, y: y @ y, x), SQUARE, Operations(7 * 2 * 4**3, 7)),
    ],
)
def test_counts(function, argument, expected):
    assert counted(function, argument) == expected


def test_a_gradient_costs_two_products():
    forward = counted(lambda x: (x @ x).sum(), SQUARE)
    both = counted(jax.grad(lambda x: (x @ x).sum()), SQUARE)
    assert both.matrix == 3 * forward.matrix


def test_depthwise_gradients_are_vector_operations():
    forward = counted(lambda x: depthwise(x).sum(), IMAGES)
    both = counted(jax.grad(lambda x: depthwise(x).sum()), IMAGES)
    assert both.matrix == 0 and both.vector > 1.9 * forward.vector
