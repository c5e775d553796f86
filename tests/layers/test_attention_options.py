"""Options of attention, and attention over every kind of connectivity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dwconv_jax import LocallyConnected, ops
from dwconv_jax.layers import WHOLE, Canvas
from tests.numerics import assert_close

HEADS, CHANNELS = 2, 8


def make(attention=None, **flags):
    defaults = dict(connectivity="global", map_size=(5,), groups=HEADS)
    return LocallyConnected(
        CHANNELS, dynamic="attention", attention=attention, **defaults | flags, rngs=nnx.Rngs(0)
    )


def features(rng, *size):
    return jnp.array(rng.normal(size=(2, *size, CHANNELS)), jnp.float32)


def weights_and_values(layer, x):
    return layer.source(x, False, WHOLE)


def projected(layer, x, kv_heads=HEADS):
    """Queries `[B, L, heads, D]`, keys and values of a sequence."""
    width = CHANNELS // HEADS
    q, k, v = np.split(layer.source.qkv(x), [CHANNELS, CHANNELS + kv_heads * width], axis=-1)
    return (a.reshape(*x.shape[:-1], -1, width) for a in (q, k, v))


def softmax(scores):
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_cosine_logits_have_a_temperature(rng):
    layer, x = make(dict(cosine=True, position_bias=None), map_size=None), features(rng, 1, 5)
    assert_close(layer.source.logit_scale[...], np.full(HEADS, np.log(10)), 1e-6)
    layer.source.logit_scale[...] = jnp.log(jnp.array([3.0, 1e5]))  # clamped at 100
    q, k, _ = projected(layer, x)
    q, k = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (q, k))
    scores = np.einsum("bxqhd,bxkhd->bhqk", q, k) * np.array([3.0, 100.0])[:, None, None]
    weights, _ = weights_and_values(layer, x)
    assert_close(np.moveaxis(weights[:, 0], -1, 1), softmax(scores), 1e-4)


def test_a_continuous_bias_is_swin_v2s(rng):
    layer = make(dict(position_bias="mlp"), connectivity="window", kernel_size=4, map_size=None)
    bias = layer.source.position_bias
    distance = 8 * np.arange(-3, 4) / 3
    place = np.sign(distance) * np.log2(1 + abs(distance)) / 3
    rows = np.stack(np.meshgrid(place, place, indexing="ij"), -1)
    kernel1, bias1, kernel2 = map(
        np.asarray, (bias.fc1.kernel[...], bias.fc1.bias[...], bias.fc2.kernel[...])
    )
    table = 16 / (1 + np.exp(-(np.maximum(rows @ kernel1 + bias1, 0) @ kernel2)))
    queries = jnp.zeros((1, 8, 8, HEADS, CHANNELS // HEADS))
    actual = bias(queries, layer.connectivity)[0, 0]  # [heads, Q, K]
    for query, key in ((0, 15), (5, 5), (14, 3)):
        (r, c), (s, d) = divmod(query, 4), divmod(key, 4)
        assert_close(actual[:, query, key], table[r - s + 3, c - d + 3], 1e-5)


def test_positions_are_shares_of_a_window():
    def coordinates(size, **options):
        layer = make(
            dict(position_bias="mlp", **options),
            connectivity="window", kernel_size=8, map_size=None,
        )  # fmt: skip
        places = layer.source.position_bias.coordinates(layer.connectivity, size)
        return places.reshape(15, 15, 2)[:, 0, 0]

    def expected(reach):
        distance = 8 * np.arange(-7, 8) / reach
        return np.sign(distance) * np.log2(1 + abs(distance)) / 3

    assert_close(coordinates((16, 16)), expected(7), 1e-6)
    assert_close(coordinates((4, 4)), expected(3), 1e-6)  # of the window as it shrinks
    assert_close(coordinates((4, 4), pretrained_window=6), expected(5), 1e-6)


def test_keys_may_have_no_bias(rng):
    flags = dict(connectivity="window", kernel_size=4, map_size=None)
    none = dict(position_bias=None)
    layer, plain = make(none | dict(qkv_bias="qv"), **flags), make(none, **flags)
    layer.source.q_bias[...], layer.source.v_bias[...] = rng.normal(size=(2, CHANNELS))
    plain.source.qkv.kernel[...] = layer.source.qkv.kernel[...]
    plain.source.qkv.bias[...] = jnp.concatenate(
        [layer.source.q_bias[...], jnp.zeros(CHANNELS), layer.source.v_bias[...]]
    )
    x = features(rng, 4, 4)
    for actual, expected in zip(
        weights_and_values(layer, x), weights_and_values(plain, x), strict=True
    ):
        assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("query_stride", [1, 2])
def test_blocked_attention_is_halonets(rng, query_stride):
    halo = dict(connectivity="sliding", kernel_size=4, stride=2, map_size=None)
    options = dict(position_bias="query", qkv_bias=False, see_border=True, output_projection=False)
    layer = make(options | dict(query_stride=query_stride), **halo)
    x = features(rng, 4, 6)
    q, k, v = (
        a.reshape(*x.shape[:3], HEADS, -1)
        for a in np.split(np.asarray(x) @ layer.source.qkv.kernel[...], 3, axis=-1)
    )
    k, v = (np.pad(a, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0))) for a in (k, v))
    down, right = (np.asarray(rows[...]) for rows in layer.source.position_bias.rows)
    expected = np.zeros(q.shape)
    for row, col in np.ndindex(4, 6):
        top, left = row // 2 * 2, col // 2 * 2
        seen = (slice(None), slice(top, top + 4), slice(left, left + 4))
        y, x_ = (np.arange(4) - place % 2 // query_stride + 3 for place in (row, col))
        vectors = down[y][:, None] + right[x_]
        query = q[:, row, col]
        scores = np.einsum("bhd,byxhd->bhyx", query, k[seen]) / 2
        scores += np.einsum("bhd,yxd->bhyx", query, vectors)
        weights = softmax(scores.reshape(2, HEADS, 16)).reshape(scores.shape)
        expected[:, row, col] = np.einsum("bhyx,byxhd->bhd", weights, v[seen])
    assert_close(layer(x), expected.reshape(x.shape), 1e-5)


def test_beyond_a_picture_is_as_beyond_the_map(rng):
    layer = make(dict(see_border=True), connectivity="sliding", kernel_size=3, map_size=None)
    layer.source.qkv.bias[...] = jnp.array(rng.normal(size=3 * CHANNELS))
    x = features(rng, 5, 6)
    y = layer(x, canvas=Canvas(jnp.array([[4, 3], [5, 6]])))
    assert_close(y[0, :4, :3], layer(x[:1, :4, :3])[0], 1e-5)


def test_rotary_logits_depend_on_the_distance(rng):
    options = dict(rotary=True, position_bias=None, qkv_bias=False)
    layer = make(options, map_size=None)
    assert layer.source.qkv.bias is None
    same = jnp.broadcast_to(features(rng, 1, 1), (2, 1, 6, CHANNELS))
    weights, _ = weights_and_values(layer, same)
    ratios = np.log(weights[:, 0, :, :, :])
    differences = ratios[:, 1:, 1:] - ratios[:, :-1, :-1]  # a row's norm alone changes
    assert np.abs(differences - differences[:, :, :1]).max() < 1e-4
    assert np.abs(ratios[:, :, 1:] - ratios[:, :, :1]).max() > 1e-4
    with pytest.raises(ValueError, match=r"multiple of 6, got 4"):
        make(options, connectivity="window", kernel_size=(2, 2, 2), map_size=None)


def test_queries_share_the_heads_of_keys(rng):
    options = dict(num_kv_heads=1, position_bias=None)
    layer, x = make(options, map_size=None), features(rng, 1, 5)
    q, k, v = projected(layer, x, kv_heads=1)
    scores = np.einsum("bxqhd,bxkd->bhqk", q, k[..., 0, :]) / 2
    weights, values = weights_and_values(layer, x)
    assert_close(np.moveaxis(weights[:, 0], -1, 1), softmax(scores), 1e-5)
    assert_close(values, np.tile(v[..., 0, :], HEADS), 1e-6)
    with pytest.raises(ValueError, match="num_kv_heads=3 must divide the 2 heads"):
        make(dict(num_kv_heads=3))


def test_lepe_convolves_the_values(rng):
    flags = dict(connectivity="window", kernel_size=4, map_size=None)
    layer, plain = make(dict(lepe=3), **flags), make(**flags)
    nnx.update(plain, nnx.filter_state(nnx.state(layer), lambda path, _: path[0] != "lepe"))
    x = features(rng, 8, 8)
    _, values = weights_and_values(layer, x)
    kernel = layer.lepe.source.kernel[...].reshape(3, 3, CHANNELS)
    beside = ops.depthwise_conv(values, kernel) + layer.lepe.bias[...][None, None, None]
    expected = plain(x) + beside @ layer.proj.kernel[...]
    assert_close(layer(x), expected, 1e-5)


@pytest.mark.parametrize("cyclic", [False, True, (False, True)])
def test_cyclic_axes_have_no_seam(rng, cyclic):
    layer = make(dict(cyclic=cyclic), connectivity="window", kernel_size=4, shift=2, map_size=None)
    weights, _ = weights_and_values(layer, features(rng, 8, 8))
    outputs = layer.connectivity.outputs(8, 8)
    (window,), (query,) = (outputs == 0).nonzero()
    rows, columns = np.divmod(outputs[window], 8)
    shares = weights[:, window, query].max((0, -1))
    vertical, horizontal = np.broadcast_to(cyclic, 2)
    for seen, across in (
        (vertical, (rows > 5) & (columns < 2)),
        (horizontal, (columns > 5) & (rows < 2)),
    ):
        assert across.any() and (shares[across].min() > 1e-6) == seen


CONNECTIVITIES = [
    (dict(kernel_size=(3,), causal=True), (7,)),
    (dict(kernel_size=(3,), border="wrap", stride=2), (7,)),
    (dict(kernel_size=3, border="clamp"), (5, 6)),
    (dict(kernel_size=4, stride=2), (5, 6)),
    (dict(connectivity="grid", kernel_size=3), (5, 6)),
    (dict(connectivity="window", kernel_size=(None, 2), map_size=(4, 6)), (4, 6)),
    (dict(connectivity="window", kernel_size=(2, 3, 3), shift=(1, 1, 0)), (4, 3, 6)),
    (dict(kernel_size=(2, 3, 3), border="clamp", causal=(True, False, False)), (3, 4, 5)),
]


@pytest.mark.parametrize(("flags", "size"), CONNECTIVITIES, ids=str)
def test_attention_over_any_connectivity_trains(rng, flags, size):
    layer = make(**dict(connectivity="sliding", map_size=None) | flags)
    graph, state = nnx.split(layer)
    x = features(rng, *size)

    @jax.jit
    def loss_and_gradients(state, x):
        def loss(state, x):
            return jnp.square(nnx.merge(graph, state)(x)).sum()

        return jax.value_and_grad(loss)(state, x)

    @jax.jit
    def defined(x):
        weights, values = layer.source(x, False, WHOLE)
        return layer.proj(
            ops.definition.locally_connected(values, weights, layer.connectivity)
        ), weights.sum(3)

    loss, grads = loss_and_gradients(state, x)
    y, sums = defined(x)
    assert_close(loss, jnp.square(y).sum(), 1e-5)
    assert_close(sums, jnp.ones_like(sums), 1e-5)
    gradients = nnx.to_pure_dict(grads)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert jnp.abs(gradients["source"]["position_bias"]["table"]).max() > 0
    narrow = layer(x.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    assert_close(narrow, y, 3e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(attention=dict(heads=3)), "attention must be a dict of options position_bias, cos"),
        (dict(attention=dict(position_bias="sine")), "position_bias must be one of 'table', 'mlp'"),
        (dict(attention=dict(qkv_bias="kv")), "qkv_bias must be one of True, False, 'qv'"),
        (dict(attention=dict(pretrained_window=7)), "needs position_bias='mlp', got 'table'"),
        (dict(attention=dict(query_stride=2)), "needs position_bias='query', got 'table'"),
        (
            dict(attention=dict(see_border=True), connectivity="sliding", causal=True),
            "see_border=True does not go with causal=True",
        ),
        (dict(attention=dict(cyclic=True)), "cyclic=True needs connectivity='window'"),
        (dict(attention={}, dynamic="none"), "needs dynamic='attention', got 'none'"),
        (dict(connectivity="window", kernel_size=(None, 7), map_size=None), "map_size must be"),
    ],
)
def test_wrong_options_are_named(arguments, message):
    defaults = dict(dynamic="attention", connectivity="global", map_size=(5, 5), groups=HEADS)
    with pytest.raises(ValueError, match=message):
        LocallyConnected(CHANNELS, **defaults | arguments, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("border", ["wrap", "clamp"])
def test_canvases_refuse_what_depends_on_the_size_of_the_map(rng, border):
    layer = LocallyConnected(CHANNELS, kernel_size=3, border=border, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="depends on the size of the map"):
        layer(features(rng, 6, 6), canvas=Canvas(jnp.full((2, 2), 4)))


@pytest.mark.parametrize(
    ("window_size", "size", "block"),
    [
        ((None, 2), (8, 6), (3, 16, 16)),  # stripes are as high as the map
        ((None, None), (8, 6), (1, 48, 48)),
        ((1, 7), (1, 14), (2, 7, 7)),
        ((7, 7), (5, 6), (2, 25, 25)),  # Swin's rule for square windows
    ],
)
def test_small_maps_shrink_no_other_window(window_size, size, block):
    layer = make(dict(position_bias=None), connectivity="window", kernel_size=window_size,
                 map_size=None)  # fmt: skip
    assert layer.connectivity.block_shape(*size) == block


def test_stripes_on_a_square_map_shift():
    flags = dict(connectivity="window", kernel_size=(None, 4), shift=(0, 2), map_size=None)
    stripes = make(dict(position_bias=None), **flags).connectivity
    assert stripes.across_seam(8, 8) is not None


def test_other_sources_over_one_and_three_axes(rng):
    for dynamic, flags, size in (
        ("centre", dict(kernel_size=(4,), causal=True, groups=2), (9,)),
        ("pooled", dict(kernel_size=(3,), border="wrap"), (9,)),
        ("pooled", dict(kernel_size=(3, 1, 3)), (3, 4, 5)),
        ("none", dict(kernel_size=(2, 2, 2), connectivity="window", groups=4), (3, 4, 5)),
    ):
        layer = LocallyConnected(CHANNELS, dynamic=dynamic, **flags, rngs=nnx.Rngs(0))
        x = features(rng, *size)
        weights, values = layer.source(x, True, WHOLE)
        y = ops.definition.locally_connected(values, weights, layer.connectivity)
        y = y if layer.bias is None else y + layer.bias[...].reshape((1,) * (y.ndim - 1) + (-1,))
        assert_close(layer(x, train=True), y, 1e-5)
