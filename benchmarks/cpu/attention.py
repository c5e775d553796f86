"""Neighborhood attention against dense masked attention in JAX, and against PyTorch."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.session import Session
from benchmarks.timing import Timer, compile_function, timer
from dwconv_jax import ops

BATCH = 8
KERNEL = 7
WIDTH = 32  # of a head
MAPS = ((56, 3), (14, 12))  # side and heads: Swin's first and third stage
CONNECTIVITY = ops.Sliding(KERNEL, border="clamp")


def measure(run: Session) -> None:
    """A row for each map, pass and peer."""
    for (side, heads), train in itertools.product(MAPS, (False, True)):
        arrays = _arrays(side, heads)
        what = "forward + gradients" if train else "forward"
        label = (f"attention {side}x{side}, {heads} heads", what, "XLA")
        call = _with_gradients if train else _forward
        _print_memory(label, call, arrays)
        run.against(label, call(neighborhood), arrays, "dense attention", _dense(call, arrays))
        details = dict(batch=BATCH, side=side, heads=heads, width=WIDTH, kernel=KERNEL, train=train)
        # PyTorch's flex_attention has no gradients on CPU.
        for peer in ("unfold_attention",) if train else ("unfold_attention", "flex_attention"):
            run.against_torch(label, call(neighborhood), arrays, peer, details, f"PyTorch {peer}")


def neighborhood(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Ours."""
    return ops.neighborhood_attention(query, key, value, KERNEL)


def dense(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """All queries with all keys, and a mask: what JAX offers today."""
    batch, *size, heads, width = query.shape
    positions, neighbours = int(np.prod(size)), CONNECTIVITY.neighbours(*size)[:, 0]
    mask = np.zeros((positions, positions), bool)
    np.put_along_axis(mask, neighbours, True, axis=1)
    query, key, value = (x.reshape(batch, positions, heads, width) for x in (query, key, value))
    out = jax.nn.dot_product_attention(query, key, value, mask=jnp.array(mask)[None, None])
    return out.reshape(batch, *size, heads, width)


def _arrays(side: int, heads: int) -> tuple[jax.Array, ...]:
    shape = (BATCH, side, side, heads, WIDTH)
    return tuple(jax.random.normal(jax.random.key(i), shape) for i in range(3))


def _forward(attention: Any) -> Any:
    return attention


def _with_gradients(attention: Any) -> Any:
    def call(query: jax.Array, key: jax.Array, value: jax.Array) -> Any:
        out, pullback = jax.vjp(attention, query, key, value)
        return out, pullback(query)

    return call


def _dense(call: Any, arrays: tuple[jax.Array, ...]) -> Timer:
    compiled, _ = compile_function(call(dense), *arrays)
    return timer(lambda: compiled(*arrays))


def _print_memory(label: tuple[str, ...], call: Any, arrays: tuple[jax.Array, ...]) -> None:
    compiled, _ = compile_function(call(neighborhood), *arrays)
    temporary = compiled.memory_analysis().temp_size_in_bytes
    inputs = sum(x.nbytes for x in arrays)
    logits = arrays[0].nbytes // WIDTH * KERNEL**2
    share = temporary / (inputs + logits + arrays[0].nbytes)
    print(f"{label[0]}, {label[1]}: temporaries {share:.2f} of inputs, logits and outputs")
