"""The causal short convolution, against loops over tokens and under JAX's transformations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dwconv_jax import ops
from dwconv_jax.errors import UserError
from dwconv_jax.ops.lowerings.cpu import kernel as cpu_kernel
from tests.numerics import assert_close

silu_conv = functools.partial(ops.causal_conv1d, activation="silu")

BATCH, LENGTH, CHANNELS, TAPS = 2, 9, 20, 4
KERNELS = {
    "static": (TAPS, CHANNELS),
    "per sequence": (BATCH, TAPS, CHANNELS),
    "per position": (BATCH, LENGTH, TAPS, 5),
}


@pytest.fixture(params=["kernel", "XLA"])
def lowering(request, monkeypatch):
    if request.param == "kernel" and not cpu_kernel.is_built():
        pytest.skip("the kernel was not built")
    monkeypatch.setenv("DWCONV_JAX_CPU_KERNEL", "1" if request.param == "kernel" else "0")
    jax.clear_caches()
    yield
    jax.clear_caches()


def normal(rng, *shape):
    return jnp.array(rng.normal(size=shape), jnp.float32)


def inputs(rng, kernel_shape=KERNELS["static"], batch=BATCH, length=LENGTH, channels=CHANNELS):
    """x, kernel, bias and state."""
    past = kernel_shape[-2] - 1
    shapes = (batch, length, channels), kernel_shape, (channels,), (batch, past, channels)
    return tuple(normal(rng, *shape) for shape in shapes)


def segments(rng, batch=BATCH, length=LENGTH):
    return jnp.array(np.sort(rng.integers(0, 4, (batch, length)), axis=1))


def with_state(x, kernel, bias, state, segment_ids=None, activation="silu"):
    return ops.causal_conv1d(
        x, kernel, bias, activation=activation, segment_ids=segment_ids, state=state
    )


def loop(x, kernel, bias, state, g, segment_ids=None, activation="silu"):
    """The result, and the gradients of its product with `g`, token by token in float64."""
    x, kernel, bias, state, g = (np.asarray(a, np.float64) for a in (x, kernel, bias, state, g))
    batch, length, channels = x.shape
    taps, groups = kernel.shape[-2:]
    of_channel = np.arange(channels) // (channels // groups)
    tokens = np.concatenate([state, x], axis=1)
    y, token_gradient = np.zeros_like(x), np.zeros_like(tokens)
    kernel_gradient, bias_gradient = np.zeros_like(kernel), np.zeros_like(bias)
    for b, t in np.ndindex(batch, length):
        where = {2: (), 3: (b,), 4: (b, t)}[kernel.ndim]
        # A token of the state belongs to the segment of token 0.
        ids = None if segment_ids is None else np.asarray(segment_ids)[b]
        seen = [
            j
            for j in range(taps)
            if ids is None or len(set(ids[max(0, t - taps + 1 + j) : t + 1])) == 1
        ]
        z = bias + sum(kernel[where][j][of_channel] * tokens[b, t + j] for j in seen)
        sigmoid = 1 / (1 + np.exp(-z))
        y[b, t] = z * sigmoid if activation else z
        slope = sigmoid * (1 + z * (1 - sigmoid)) if activation else 1
        u = g[b, t] * slope
        bias_gradient += u
        for j in seen:
            token_gradient[b, t + j] += kernel[where][j][of_channel] * u
            np.add.at(kernel_gradient[where][j], of_channel, tokens[b, t + j] * u)
    past = taps - 1
    return y, (token_gradient[:, past:], kernel_gradient, bias_gradient, token_gradient[:, :past])


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("packed", [False, True])
def test_value_and_gradients_are_those_of_a_loop(rng, lowering, kind, packed):
    arguments = inputs(rng, KERNELS[kind])
    segment_ids = segments(rng) if packed else None
    g = normal(rng, BATCH, LENGTH, CHANNELS)
    activation = "silu" if packed or kind == "static" else None
    function = functools.partial(with_state, segment_ids=segment_ids, activation=activation)
    y, pullback = jax.vjp(function, *arguments)
    wanted, gradients = loop(*arguments, g, segment_ids, activation)
    assert_close(y, wanted, 1e-5)
    for name, actual, expected in zip(
        ("x", "kernel", "bias", "state"), pullback(g), gradients, strict=True
    ):
        assert_close(actual, expected, 1e-5, name)


# Shorter than the kernel, one tap, many taps; tails of lanes, chunks of tokens, panels of channels.
@pytest.mark.parametrize(
    ("batch", "length", "channels", "taps"),
    [(1, 2, 3, 4), (2, 5, 16, 1), (1, 11, 5, 7), (2, 130, 33, 2), (1, 131, 530, 4)],
)
def test_the_compiled_kernel_equals_xla_at_all_sizes(
    rng, monkeypatch, batch, length, channels, taps
):
    arguments = inputs(rng, (taps, channels), batch, length, channels)
    segment_ids = segments(rng, batch, length)

    @jax.jit
    def value_and_gradients(*arguments):
        y, pullback = jax.vjp(functools.partial(with_state, segment_ids=segment_ids), *arguments)
        return y, *pullback(arguments[0])

    actual = value_and_gradients(*arguments)
    monkeypatch.setenv("DWCONV_JAX_CPU_KERNEL", "0")
    jax.clear_caches()
    for a, e in zip(actual, value_and_gradients(*arguments), strict=True):
        assert a.shape == e.shape
        if e.size:
            assert_close(a, e, 1e-6)


def test_defaults_are_zeros_before_the_sequence_and_no_bias(rng):
    x, kernel, bias, state = inputs(rng)
    y, last = ops.causal_conv1d(x, kernel, return_state=True)
    assert_close(y, with_state(x, kernel, 0 * bias, 0 * state, activation=None), 1e-6)
    assert jnp.array_equal(last, x[:, -3:])


def test_packed_sequences_equal_separate_ones(rng, lowering):
    x, kernel, bias, _ = inputs(rng, length=12)
    lengths = (5, 1, 6)
    segment_ids = jnp.repeat(jnp.array([7, 3, 7]), jnp.array(lengths))[None].repeat(BATCH, 0)
    packed = silu_conv(x, kernel, bias, segment_ids=segment_ids)
    separate = [silu_conv(part, kernel, bias) for part in jnp.split(x, (5, 6), axis=1)]
    assert_close(packed, jnp.concatenate(separate, axis=1), 1e-6)


def stream(x, kernels, bias, state):
    """One token at a time; `kernels` is one for each token."""

    def step(state, token):
        x, kernel = token
        y, state = silu_conv(x[:, None], kernel, bias, state=state, return_state=True)
        return state, y[:, 0]

    state, y = jax.lax.scan(step, state, (x.swapaxes(0, 1), kernels))
    return y.swapaxes(0, 1), state


@pytest.mark.parametrize("kind", KERNELS)
def test_streaming_equals_the_whole_sequence(rng, lowering, kind):
    x, kernel, bias, state = inputs(rng, KERNELS[kind])
    whole, last = silu_conv(x, kernel, bias, state=state, return_state=True)
    by_token = kernel.ndim == 4
    kernels = kernel.swapaxes(0, 1)[:, :, None] if by_token else jnp.stack([kernel] * LENGTH)
    y, end = stream(x, kernels, bias, state)
    assert jnp.array_equal(end, last)
    compiled = cpu_kernel.is_usable() and not by_token
    assert not compiled or jnp.array_equal(y, whole)  # XLA may round another way
    assert_close(y, whole, 1e-6)


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_packed_sequences_go_on_in_the_next_chunk(rng, cut):
    x, kernel, bias, state = inputs(rng)
    segment_ids = jnp.array([[0] * 6 + [1] * 3, [0] * 2 + [1] * 7])
    call = functools.partial(silu_conv, kernel=kernel, bias=bias)
    whole, last = call(x, segment_ids=segment_ids, state=state, return_state=True)
    first, middle = call(
        x[:, :cut], segment_ids=segment_ids[:, :cut], state=state, return_state=True
    )
    starts = segment_ids[:, cut] != segment_ids[:, cut - 1]
    middle = jnp.where(starts[:, None, None], 0, middle)
    second, end = call(
        x[:, cut:], segment_ids=segment_ids[:, cut:], state=middle, return_state=True
    )
    assert_close(jnp.concatenate([first, second], axis=1), whole, 1e-6)
    assert jnp.array_equal(end, last)
    assert jnp.array_equal(last[0], x[0, -3:])


def test_bfloat16_sums_in_float32(rng):
    x, kernel, bias, state = (a.astype(jnp.bfloat16) for a in inputs(rng, (7, CHANNELS)))
    wide = [a.astype(jnp.float32) for a in (x, kernel, bias, state)]
    g = x[:, ::-1]
    y, pullback = jax.vjp(with_state, x, kernel, bias, state)
    expected, gradients = loop(*wide, g)
    assert y.dtype == jnp.bfloat16
    assert_close(y, expected, 4e-3)
    for actual, wanted in zip(pullback(g), gradients, strict=True):
        assert actual.dtype == jnp.bfloat16
        assert_close(actual, wanted, 6e-3)
    assert ops.causal_conv1d(x, kernel.astype(jnp.float32)).dtype == jnp.float32


def plain(x, kernel, bias, state):
    """The convolution in JAX's own operations."""
    tokens = jnp.concatenate([state, x], axis=1)
    shifted = (tokens[:, j : j + x.shape[1]] * row[None, None] for j, row in enumerate(kernel))
    return jax.nn.silu(sum(shifted) + bias[None, None])


def derivatives(function, of_one_segment, arguments, tangents):
    """Forward mode, both ways; forward over reverse mode; reverse over reverse mode."""

    def loss(function):
        return lambda arguments: (function(*arguments) ** 3).sum()

    def penalty(arguments):
        return sum((g**2).sum() for g in jax.grad(loss(function))(arguments))

    _, push_forward = jax.linearize(function, *arguments)
    return (
        jax.jvp(function, arguments, tangents),
        push_forward(*tangents),
        jax.hessian(loss(of_one_segment))(arguments),
        jax.grad(penalty)(arguments),
    )


def test_forward_mode_and_second_derivatives(rng, lowering):
    small = functools.partial(inputs, rng, (3, 2), 1, 4, 2)
    arguments, tangents = small(), small()
    one_segment = functools.partial(with_state, segment_ids=jnp.zeros((1, 4), jnp.int32))
    actual, expected = (
        jax.jit(functools.partial(derivatives, *functions))(arguments, tangents)
        for functions in ((with_state, one_segment), (plain, plain))
    )
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(a, e, 1e-5)


@pytest.mark.parametrize("mapped", [(0, 0, 0, 0), (0, None, None, 0), (None, 0, 0, None)])
def test_it_vmaps(rng, lowering, mapped):
    arguments = [
        normal(rng, 3, *a.shape) if axis == 0 else a
        for a, axis in zip(inputs(rng), mapped, strict=True)
    ]

    def value_and_gradients(*arguments):
        y, pullback = jax.vjp(with_state, *arguments)
        return y, *pullback(jnp.cos(y))

    value_and_gradients = jax.jit(value_and_gradients)
    together = jax.vmap(value_and_gradients, in_axes=mapped)(*arguments)
    for i in range(3):
        one = (a[i] if axis == 0 else a for a, axis in zip(arguments, mapped, strict=True))
        for actual, expected in zip(together, value_and_gradients(*one), strict=True):
            assert_close(actual[i], expected, 1e-5)


def test_the_backward_pass_keeps_only_the_inputs(rng):
    arguments = inputs(rng)
    _, pullback = jax.vjp(with_state, *arguments)
    kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert kept == sum(a.size for a in arguments)


def test_it_rematerializes_and_scans(rng):
    x, kernel, bias, _ = inputs(rng)

    def layers(kernels, step):
        return (jax.lax.scan(lambda x, k: (step(x, k), None), x, kernels)[0] ** 2).sum()

    kernels = jnp.stack([kernel, 2 * kernel])
    step = functools.partial(silu_conv, bias=bias)
    expected = jax.grad(layers)(kernels, lambda x, k: plain(x, k, bias, 0 * x[:, :3]))
    for function in (step, jax.checkpoint(step)):
        assert_close(jax.grad(layers)(kernels, function), expected, 1e-5)


def test_it_exports_with_any_batch_and_length(rng):
    x, kernel, bias, state = inputs(rng)
    batch, length = export.symbolic_shape("b, l")
    shapes = (
        jax.ShapeDtypeStruct((batch, length, CHANNELS), x.dtype),
        jax.ShapeDtypeStruct((batch, length), jnp.int32),
        jax.ShapeDtypeStruct(((batch, *state.shape[1:])), x.dtype),
    )

    @jax.jit
    def function(x, segment_ids, state):
        def loss(x, state):
            y, last = silu_conv(
                x, kernel, bias, segment_ids=segment_ids, state=state, return_state=True
            )
            return (y**2).sum(), last

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, state)

    exported = export.export(function)(*shapes)
    for rows, tokens in ((2, 9), (1, 2)):
        arguments = x[:rows, :tokens], segments(rng)[:rows, :tokens], state[:rows]
        actual, expected = exported.call(*arguments), function(*arguments)
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            assert_close(a, e, 1e-5)


def test_other_platforms_do_not_call_the_compiled_kernel(rng):
    def loss(*arguments):
        return with_state(*arguments).sum()

    traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3))).trace(*inputs(rng))
    for platform in ("cuda", "tpu"):
        assert "Dwconv" not in traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_devices_share_sequences_and_channels(rng, lowering, axis_type):
    batch, channels = 8, 32
    arguments = inputs(rng, (TAPS, channels), batch, LENGTH, channels)
    segment_ids = segments(rng, batch)

    def function(x, kernel, bias, state, segment_ids):
        def loss(*arguments):
            y, last = silu_conv(
                *arguments[:3], segment_ids=segment_ids, state=arguments[3], return_state=True
            )
            return (y**2).sum(), (y, last)

        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(x, kernel, bias, state)

    expected = jax.jit(function)(*arguments, segment_ids)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(axis_type,) * 2)
    specs = [
        PartitionSpec("data", None, "model"),
        PartitionSpec(None, "model"),
        PartitionSpec("model"),
        PartitionSpec("data", None, "model"),
        PartitionSpec("data"),
    ]
    shardings = [NamedSharding(mesh, spec) for spec in specs]
    with jax.set_mesh(mesh):
        split = jax.device_put((*arguments, segment_ids), tuple(shardings))
        compiled = jax.jit(function).lower(*split).compile()
        text = compiled.as_text()
        assert not any(op in text for op in ("all-gather", "all-to-all", "collective-permute"))
        actual = compiled(*split)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_close(a, e, 1e-5)


def test_shard_map_splits_it(rng):
    x, kernel, bias, _ = inputs(rng, batch=8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = PartitionSpec("data"), PartitionSpec()

    def loss(x, kernel, bias):
        return jax.lax.psum((silu_conv(x, kernel, bias) ** 2).sum(), "data")

    sharded = jax.shard_map(loss, mesh=mesh, in_specs=(rows, whole, whole), out_specs=whole)
    actual = jax.jit(jax.grad(sharded, argnums=(0, 1, 2)))(x, kernel, bias)
    expected = jax.grad(lambda *a: (silu_conv(*a) ** 2).sum(), argnums=(0, 1, 2))(x, kernel, bias)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(x=jnp.zeros((2, 9))), r"x must be floating \[B, L, C\]"),
        (dict(x=jnp.zeros((2, 9, 20), int)), r"x must be floating .*, got int32\[2, 9, 20\]"),
        (dict(kernel=jnp.zeros(4)), r"kernel must be \[K, 20\], .* got shape \(4,\)"),
        (dict(kernel=jnp.zeros((4, 5))), r"kernel must be \[K, 20\]"),
        (dict(kernel=jnp.zeros((3, 4, 20))), r"\[2, K, 20\]"),
        (dict(kernel=jnp.zeros((2, 9, 4, 6))), "G=6 must divide the 20 channels"),
        (dict(bias=jnp.zeros((1, 20))), r"bias must be \[20\], got shape \(1, 20\)"),
        (dict(activation="gelu"), "activation must be one of None, 'silu', got 'gelu'"),
        (dict(segment_ids=jnp.zeros((2, 9))), r"segment_ids must be integers \[2, 9\]"),
        (dict(segment_ids=jnp.zeros((9, 2), int)), r"segment_ids .* got int32\[9, 2\]"),
        (
            dict(state=jnp.zeros((2, 4, 20))),
            r"state must be .*\[2, 3, 20\], got shape \(2, 4, 20\)",
        ),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    legal = dict(x=jnp.zeros((2, 9, 20)), kernel=jnp.zeros((4, 20)))
    with pytest.raises(UserError, match=message):
        ops.causal_conv1d(**legal | changes)
