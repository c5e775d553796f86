"""A function as a straight-line program of plain operations, for converters to other formats."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax
from jax.extend import core

# The parameter that holds what a call computes, by the name of its primitive.
_CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


def straight_line(
    function: Callable[..., Any], *arguments: jax.ShapeDtypeStruct
) -> Callable[..., Any]:
    """Traces a function of arrays, and returns an equal one that applies plain operations alone.

    Calls are inlined, scans unrolled, and `lax.platform_dependent` takes its default, which needs
    no compiled kernels. What depends on no argument is computed here.

    Args:
      function: returns one array.
      *arguments: what it takes; sizes may be symbolic.

    Returns:
      A function of the same arguments, to be traced.
    """
    program = jax.make_jaxpr(function)(*arguments)
    return lambda *arrays: _evaluate(program, arrays)[0]


def _evaluate(program: Any, arguments: Sequence[Any]) -> list[Any]:
    """Applies a jaxpr, with or without its constants, to arrays."""
    jaxpr, constants = getattr(program, "jaxpr", program), getattr(program, "consts", ())
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    known = not any(isinstance(value, jax.core.Tracer) for value in inputs)
    if name == "platform_index":
        return [params["platforms"].index(None)]
    if name == "cond" and not isinstance(inputs[0], jax.core.Tracer):
        return _evaluate(params["branches"][int(inputs[0])], inputs[1:])
    if name == "scan":
        return _unroll(equation, inputs)
    if name in _CALLS:
        return _evaluate(params[_CALLS[name]], inputs)
    if "program" in params:  # an `ops.lowerings.bilinear.Bilinear`
        return _evaluate(params["program"], inputs)
    if known and name != "dim_as_value" and not _has_symbolic_shape(equation):
        with jax.ensure_compile_time_eval():
            return _bind(equation, inputs)
    if name == "dynamic_slice" and not any(isinstance(i, jax.core.Tracer) for i in inputs[1:]):
        return [_slice(inputs[0], inputs[1:], params["slice_sizes"])]
    if name == "pad" and _has_symbolic_shape(equation) and _grows(params["padding_config"]):
        return [_pad(inputs[0], inputs[1], params["padding_config"])]
    if name == "reduce_window_max":
        return [_max_pool(inputs[0], params)]
    return _bind(equation, inputs)


def _bind(equation: Any, inputs: list[Any]) -> list[Any]:
    results = equation.primitive.bind(*inputs, **equation.params)
    return results if equation.primitive.multiple_results else [results]


def _has_symbolic_shape(equation: Any) -> bool:
    return any(export.is_symbolic_dim(n) for atom in equation.outvars for n in atom.aval.shape)


def _unroll(scan: Any, inputs: list[Any]) -> list[Any]:
    body = scan.params["jaxpr"]
    # Scanned arrays have one axis more outside of the loop than in it.
    num_carried = sum(
        outside.aval.ndim == inside.ndim
        for outside, inside in zip(scan.outvars, body.out_avals, strict=True)
    )
    num_scanned = sum(
        outside.aval.ndim != inside.ndim
        for outside, inside in zip(scan.invars, body.in_avals, strict=True)
    )
    num_constants = len(inputs) - num_carried - num_scanned
    constants, carried = inputs[:num_constants], inputs[num_constants:][:num_carried]
    scanned = inputs[num_constants + num_carried :]
    steps = range(scan.params["length"])
    stacks: list[list[Any]] = []
    for step in reversed(steps) if scan.params["reverse"] else steps:
        results = _evaluate(body, [*constants, *carried, *(_at(x, step) for x in scanned)])
        carried = results[:num_carried]
        stacks.append(results[num_carried:])
    if scan.params["reverse"]:
        stacks.reverse()
    return [*carried, *(_stack(pieces) for pieces in zip(*stacks, strict=True))]


def _at(array: Any, index: int) -> Any:
    if isinstance(array, jax.core.Tracer):
        return lax.squeeze(lax.slice_in_dim(array, index, index + 1), (0,))
    with jax.ensure_compile_time_eval():
        return array[index]


def _stack(arrays: Sequence[Any]) -> Any:
    return lax.concatenate([lax.expand_dims(array, (0,)) for array in arrays], 0)


def _slice(array: Any, starts: list[Any], sizes: Sequence[Any]) -> Any:
    whole = zip(array.shape, sizes, strict=True)
    first = [
        0 if total is size or total == size else min(max(int(start), 0), total - size)
        for (total, size), start in zip(whole, starts, strict=True)
    ]
    return lax.slice(array, first, [i + size for i, size in zip(first, sizes, strict=True)])


def _grows(config: Sequence[tuple[int, int, int]]) -> bool:
    return all(low >= 0 and high >= 0 and interior == 0 for low, high, interior in config)


def _pad(array: Any, value: Any, config: Sequence[tuple[int, int, int]]) -> Any:
    """Pads by concatenation: jax2onnx (0.13 to 0.17) cannot pad arrays of symbolic shape."""
    for axis, (low, high, _) in enumerate(config):
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        borders = [lax.broadcast(value, (*before, n, *after)) for n in (low, high)]
        pieces = [*borders[:1][:low], array, *borders[1:][:high]]
        array = lax.concatenate(pieces, axis)
    return array


def _max_pool(array: Any, params: dict[str, Any]) -> Any:
    """Pools by maxima of slices: jax2onnx pools over all axes, ONNX Runtime over three at most.

    Of floats, without dilation, as all networks here pool.
    """
    assert set(params["base_dilation"]) == set(params["window_dilation"]) == {1}
    lowest = jnp.array(-jnp.inf, array.dtype)
    array = _pad(array, lowest, [(low, high, 0) for low, high in params["padding"]])
    windows = zip(params["window_dimensions"], params["window_strides"], strict=True)
    for axis, (size, stride) in enumerate(windows):
        if size == stride == 1:
            continue
        end = array.shape[axis] - size + 1
        slices = [lax.slice_in_dim(array, i, end + i, stride, axis) for i in range(size)]
        array = functools.reduce(lax.max, slices)
    return array
