"""Neighborhood attention against loops in NumPy, for NATTEN's whole table of options and more."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwconv_jax import ops
from tests.numerics import assert_close
from tests.ops import neighborhood_reference as reference

DEFAULTS = dict(dilation=1, stride=1, border="clamp", is_causal=False)
HEADS, WIDTH = 2, 4

# The size of a map, and options.
CASES = [
    ((7,), dict(kernel_size=3)),
    ((9,), dict(kernel_size=4, dilation=2)),
    ((9,), dict(kernel_size=4, stride=3, dilation=2)),
    ((7,), dict(kernel_size=5, is_causal=True)),
    ((9,), dict(kernel_size=3, stride=2, dilation=3, is_causal=True)),
    ((7,), dict(kernel_size=3, border="wrap", stride=2)),
    ((8,), dict(kernel_size=4, border="zero", stride=2)),
    ((5, 7), dict(kernel_size=3)),
    ((6, 7), dict(kernel_size=(3, 2), dilation=(1, 3), is_causal=(True, False))),
    ((5, 6), dict(kernel_size=(3, 4), stride=(2, 4))),
    ((5, 6), dict(kernel_size=3, border=("wrap", "zero"))),
    ((3, 4, 5), dict(kernel_size=(2, 3, 3), is_causal=(True, False, False))),
    ((4, 3, 4), dict(kernel_size=3, stride=(1, 2, 3), border=("clamp", "wrap", "clamp"))),
]


def ids(case):
    return str(case).replace(" ", "")


def options(size, given):
    """NATTEN's arguments, each with one entry for each axis."""
    every = DEFAULTS | given
    return {
        name: value if isinstance(value, tuple) else (value,) * len(size)
        for name, value in every.items()
    }


def arrays(rng, size, *, kv_heads=HEADS, value_width=WIDTH):
    shapes = [
        (2, *size, HEADS, WIDTH),
        (2, *size, kv_heads, WIDTH),
        (2, *size, kv_heads, value_width),
    ]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def expected(query, key, value, size, given, **more):
    every = options(size, given)
    every["causal"] = every.pop("is_causal")
    wide = (a.astype(np.float64) for a in (query, key, value))
    return reference.attend(*wide, **every, **more)


@pytest.mark.parametrize(("size", "given"), CASES, ids=ids)
def test_neighborhoods_are_those_of_the_reference(size, given):
    every = options(size, given)
    every["causal"] = every.pop("is_causal")
    connectivity = ops.Sliding(**every)
    outputs, neighbours = connectivity.outputs(*size), connectivity.neighbours(*size)
    for block, place in zip(*np.nonzero(outputs >= 0), strict=True):
        query = np.unravel_index(outputs[block, place], size)
        seen = [
            -1 if position is None else np.ravel_multi_index(position, size)
            for position, _ in reference.neighborhood(query, size, **every)
        ]
        assert neighbours[block, place].tolist() == seen


@pytest.mark.parametrize(
    ("size", "given"),
    [
        ((7,), dict(kernel_size=4, stride=3, is_causal=True)),
        ((5, 6), dict(kernel_size=3, stride=2)),
    ],
    ids=ids,
)
def test_queries_of_a_coarser_map_stand_where_their_leaders_do(rng, size, given):
    query, key, value = arrays(rng, size)
    leaders = [[2, 5, 6]] if len(size) == 1 else [[1, 3, 4], [1, 3, 5]]
    at = (slice(None), *np.ix_(*leaders))
    out, lse = ops.neighborhood_attention(query[at], key, value, return_lse=True, **given)
    whole, whole_lse = expected(query, key, value, size, given)
    assert_close(out, whole[at], 1e-5)
    assert_close(lse, whole_lse[at], 1e-5)
    with pytest.raises(ValueError, match="needs dilation=1"):
        ops.neighborhood_attention(query[at], key, value, dilation=2, **given)
    with pytest.raises(ValueError, match="key must be"):
        ops.neighborhood_attention(query[:, :2], key, value, **given)


@pytest.mark.parametrize(("size", "given"), CASES, ids=ids)
def test_outputs_are_those_of_the_reference(rng, size, given):
    query, key, value = arrays(rng, size)
    table = rng.normal(size=(HEADS, *(2 * k - 1 for k in options(size, given)["kernel_size"])))
    bias = table.astype(np.float32)
    actual, lse = ops.neighborhood_attention(
        query, key, value, **(DEFAULTS | given), bias=bias, return_lse=True
    )
    wanted, wanted_lse = expected(query, key, value, size, given, bias=bias)
    assert lse.dtype == jnp.float32
    assert_close(actual, wanted, 1e-5)
    assert_close(lse, wanted_lse, 1e-5)


@pytest.mark.parametrize(("size", "given"), [CASES[9], CASES[7]], ids=ids)
def test_more_keys_fewer_key_heads_and_other_values(rng, size, given):
    query, key, value = arrays(rng, size, kv_heads=1, value_width=3)
    more = [rng.normal(size=(2, 5, 1, width)).astype(np.float32) for width in (WIDTH, 3)]
    actual, lse = ops.neighborhood_attention(
        query, key, value, **(DEFAULTS | given), scale=0.3, return_lse=True,
        additional_keys=more[0], additional_values=more[1],
    )  # fmt: skip
    wanted, wanted_lse = expected(
        query, key, value, size, given, scale=0.3,
        additional_keys=more[0], additional_values=more[1],
    )  # fmt: skip
    assert_close(actual, wanted, 1e-5)
    assert_close(lse, wanted_lse, 1e-5)


def dense(query, key, value, bias, visible, index):
    """Attention of all queries to all keys: what gradients are compared with."""
    batch, heads, width = len(query), *query.shape[-2:]
    q, k, v = (a.reshape(batch, -1, heads, a.shape[-1]) for a in (query, key, value))
    scores = (
        jnp.einsum("bqhd,bkhd->bhqk", q, k) * width**-0.5 + bias.reshape(heads, -1)[:, index][None]
    )
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(value.shape)


@pytest.mark.parametrize(("size", "given"), [CASES[4], CASES[6], CASES[8], CASES[9]], ids=ids)
def test_gradients_are_those_of_dense_attention(rng, size, given):
    every = options(size, given)
    every["causal"] = every.pop("is_causal")
    count = int(np.prod(size))
    visible, index = np.zeros((count, count), bool), np.zeros((count, count), int)
    spans = tuple(2 * k - 1 for k in every["kernel_size"])
    for query in np.ndindex(*size):
        for position, difference in reference.neighborhood(query, size, **every):
            if position is not None:
                at = (np.ravel_multi_index(query, size), np.ravel_multi_index(position, size))
                places = [n + k - 1 for n, k in zip(difference, every["kernel_size"], strict=True)]
                visible[at], index[at] = True, np.ravel_multi_index(places, spans)
    bias = rng.normal(size=(HEADS, *spans)).astype(np.float32)
    args = (*map(jnp.asarray, arrays(rng, size)), jnp.asarray(bias))

    def ours(query, key, value, bias):
        return ops.neighborhood_attention(query, key, value, **(DEFAULTS | given), bias=bias)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(function, *args):
        return jax.grad(lambda *a: jnp.sin(function(*a)).sum(), argnums=range(4))(*args)

    oracle = functools.partial(dense, visible=visible, index=index)
    for actual, wanted in zip(gradients(ours, *args), gradients(oracle, *args), strict=True):
        assert_close(actual, wanted, 1e-5)


def test_masks(rng):
    query, key, value = arrays(rng, (5, 6))
    attend = functools.partial(ops.neighborhood_attention, query, key, value, 3)
    visible = rng.random((2, 30, HEADS, 1, 9)) < 0.7
    visible[0, 3] = False  # sees nothing
    masked, lse = attend(mask=visible, return_lse=True)
    added = attend(mask=np.where(visible, 0, -np.inf).astype(np.float32))
    assert_close(masked, added, 1e-6)
    assert not masked[0, 0, 3].any() and np.isneginf(lse[0, 0, 3]).all()
    weights, _ = ops.attention.softmax(
        jnp.where(
            visible, ops.attention.logits(query, key, ops.Sliding(3, border="clamp")), -jnp.inf
        )
    )
    assert_close(ops.attention.mix(weights, value, ops.Sliding(3, border="clamp")), masked, 1e-6)
    gradient = jax.grad(lambda v: ops.neighborhood_attention(query, key, v, 3, mask=visible).sum())
    assert jnp.isfinite(gradient(value)).all()


def test_queries_whose_keys_are_all_masked_see_the_additional_keys(rng):
    query, key, value = arrays(rng, (5, 6))
    more = rng.normal(size=(2, 2, 3, HEADS, WIDTH)).astype(np.float32)
    mask = np.arange(30).reshape(1, 30, 1, 1, 1) != 3

    def attend(query, more):
        return ops.neighborhood_attention(
            query, key, value, 3, mask=mask, additional_keys=more[0], additional_values=more[1]
        )

    products = np.einsum("bhd,bmhd->bhm", query[:, 0, 3], more[0]) * WIDTH**-0.5
    shares = np.exp(products) / np.exp(products).sum(-1, keepdims=True)
    wanted = np.einsum("bhm,bmhd->bhd", shares, more[1])
    assert_close(attend(query, more)[:, 0, 3], wanted, 1e-5)
    gradients = jax.grad(lambda *args: attend(*args).sum(), argnums=(0, 1))(query, more)
    assert all(jnp.isfinite(g).all() for g in gradients)


def test_bfloat16_is_softened_in_float32(rng, emitters):
    query, key, value = (a.astype(jnp.bfloat16) for a in arrays(rng, (7, 8)))
    attend = functools.partial(ops.neighborhood_attention, kernel_size=5)
    attend = jax.jit(attend, compiler_options=emitters)
    narrow = attend(query, key, value)
    wide = attend(*(a.astype(np.float32) for a in (query, key, value)))
    assert narrow.dtype == jnp.bfloat16
    assert_close(narrow, wide, 1e-2)


def test_forward_mode_and_vmap(rng):
    query, key, value = map(jnp.asarray, arrays(rng, (5, 6)))
    attend = functools.partial(ops.neighborhood_attention, kernel_size=3)
    out, tangent = jax.jvp(attend, (query, key, value), (key, value, query))
    step = 1e-2
    there, back = (
        attend(query + s * key, key + s * value, value + s * query) for s in (step, -step)
    )
    assert_close(tangent, (there - back) / (2 * step), 1e-3)
    apart = jax.vmap(lambda q, k, v: attend(q[None], k[None], v[None])[0])(query, key, value)
    assert_close(apart, out, 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kernel_size=6), r"at most the size of an axis with border='clamp', got 6 \* 1"),
        (dict(stride=4), r"stride=\(4, 4\) must be at most kernel_size=\(3, 3\)"),
        (dict(dilation=(1, 2, 3)), "tuples must have one entry for each axis"),
        (dict(kernel_size=(3,)), "is for maps of 1 axes, got a map of 2"),
        (dict(key=np.zeros((2, 5, 6, 3, 4), np.float32)), "kv_heads dividing the 2 heads of query"),
        (dict(key=np.zeros((2, 5, 6, 2, 3), np.float32)), "key must be as wide as query"),
        (dict(bias=np.zeros((2, 5, 4))), r"bias must be \[2, 5, 5\] .* got \[2, 5, 4\]"),
        (dict(mask=np.ones((2, 2), bool)), r"\[2, 30, 2, 1, 9\], got \[2, 2\]"),
        (dict(additional_keys=np.zeros((2, 3, 2, 4))), "go together, got one of them"),
        (
            dict.fromkeys(("additional_keys", "additional_values"), np.zeros((2, 0, HEADS, WIDTH))),
            "with M at least 1, got shape",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(rng, change, message):
    query, key, value = arrays(rng, (5, 6))
    arguments = dict(query=query, key=key, value=value, kernel_size=3) | change
    with pytest.raises(ValueError, match=message):
        ops.neighborhood_attention(**arguments)
