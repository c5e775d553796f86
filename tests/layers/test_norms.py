"""Batch norm against PyTorch's arithmetic, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dwconv_jax.layers import BatchNorm
from tests.numerics import assert_close


@pytest.fixture
def x(rng):
    return rng.normal(2, 3, size=(8, 3, 5, 4)).astype(np.float32)


def test_training_normalises_by_the_batch_and_keeps_the_unbiased_variance(x):
    norm = BatchNorm(4)
    y = norm(jnp.array(x), train=True)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    assert_close(y, (x - mean) / np.sqrt(var + 1e-5), 1e-5)
    n = x.size // 4
    assert_close(norm.mean[...], 0.1 * mean, 1e-6)
    assert_close(norm.var[...], 0.9 + 0.1 * var * n / (n - 1), 1e-6)


def test_derivatives_of_training_are_those_of_the_definition(rng):
    x, weights = rng.normal(size=(2, 4, 3)).astype(np.float32)

    def normalized(x):
        return (BatchNorm(3)(x, train=True) ** 3 * weights).sum()

    def defined(x):
        mean, var = x.mean(0, keepdims=True), x.var(0, keepdims=True)
        return (((x - mean) / jnp.sqrt(var + 1e-5)) ** 3 * weights).sum()

    for derivative in (jax.grad, jax.hessian):
        assert_close(*(jax.jit(derivative(f))(x) for f in (normalized, defined)), 1e-4)


def test_evaluation_uses_and_keeps_the_running_statistics(x):
    norm = BatchNorm(4)
    norm.mean[...], norm.var[...] = jnp.arange(4.0), jnp.arange(1.0, 5.0)
    norm.scale[...], norm.bias[...] = jnp.full(4, 2.0), jnp.full(4, -1.0)
    y = norm(jnp.array(x))
    expected = 2 * (x - np.arange(4.0)) / np.sqrt(np.arange(1.0, 5.0) + 1e-5) - 1
    assert_close(y, expected, 1e-6)
    assert norm.mean[...].tolist() == [0, 1, 2, 3]


def test_groups_see_their_own_images(x):
    norm = BatchNorm(4, group_size=2)
    y = norm(jnp.array(x), train=True)
    alone = [BatchNorm(4)(jnp.array(x[i : i + 2]), train=True) for i in range(0, 8, 2)]
    assert_close(y, jnp.concatenate(alone), 1e-5)
    groups = x.reshape(4, -1, 4)
    assert_close(norm.mean[...], 0.1 * groups.mean(1).mean(0), 1e-6)
    assert_close(norm.var[...], 0.9 + 0.1 * groups.var(1, ddof=1).mean(0), 1e-5)


def test_pooled_features_have_one_value_an_image(rng):
    x = rng.normal(size=(4, 6)).astype(np.float32)
    y = BatchNorm(6)(jnp.array(x), train=True)
    assert_close(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 1e-4)


def test_small_differences_on_a_large_mean_keep_their_variance(rng):
    x = (1000 + rng.normal(size=(64, 3))).astype(np.float32)
    norm = BatchNorm(3)
    norm.mean[...] = jnp.full(3, 1001.0)
    y = norm(jnp.array(x), train=True)
    wide = x.astype(np.float64)
    assert_close(y, (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5), 1e-4)


def test_statistics_are_float32_under_bfloat16(x):
    norm = BatchNorm(4, dtype=jnp.bfloat16)
    y = norm(jnp.array(x, jnp.bfloat16), train=True)
    assert y.dtype == jnp.bfloat16
    assert norm.mean.dtype == norm.var.dtype == jnp.float32
    assert_close(
        norm.mean[...],
        0.1 * np.asarray(jnp.array(x, jnp.bfloat16), np.float32).mean((0, 1, 2)),
        1e-6,
    )


@pytest.mark.parametrize("group_size", [None, 1])
def test_a_sharded_batch_has_the_statistics_of_the_whole(x, group_size):
    mesh = Mesh(jax.devices(), ("data",))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))

    @jax.jit
    def apply(x):
        norm = BatchNorm(4, group_size=group_size)
        return norm(x, train=True), norm.mean[...], norm.var[...]

    for actual, expected in zip(apply(sharded), apply(jnp.array(x)), strict=True):
        assert_close(actual, expected, 1e-6)
    if group_size == 1:  # Groups that align with devices are normalised without communication.
        text = jax.jit(lambda x: BatchNorm(4, group_size=1)(x, train=True)).lower(sharded).compile()
        assert "all-reduce" not in text.as_text()


def test_one_value_a_channel_cannot_be_normalised():
    with pytest.raises(ValueError, match="more than one value for each channel"):
        BatchNorm(6)(jnp.zeros((1, 6)), train=True)


def test_groups_must_divide_the_batch(x):
    with pytest.raises(ValueError, match="group_size=3 must divide the batch of 8"):
        BatchNorm(4, group_size=3)(jnp.array(x), train=True)
