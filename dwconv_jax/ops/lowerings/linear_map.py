"""Linear functions whose transpose has a lowering of its own.

Like `jax.custom_derivatives.linear_call`, and in addition they vmap and have derivatives in their
residuals, so that gradients of gradients exist.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

# `(residuals, inputs) -> outputs`, linear in the inputs; trees of arrays.
LinearFunction = Callable[[Any, Any], Any]
Arrays = Sequence[Any]


def linear_map(
    function: LinearFunction, transpose: LinearFunction, residuals: Any, inputs: Any
) -> Any:
    """Calls `function(residuals, inputs)`; transposing calls `transpose(residuals, cotangents)`.

    Args:
      function: linear in `inputs` and differentiable in `residuals`.
      transpose: its transpose in `inputs`, differentiable in `residuals`.
      residuals: what both functions use.
      inputs: what the function is linear in.
    """
    shared, taken = jax.tree.structure(residuals), jax.tree.structure(inputs)
    given = jax.tree.structure(jax.eval_shape(function, residuals, inputs))

    def on_leaves(function: LinearFunction, tree: jax.tree_util.PyTreeDef) -> LinearFunction:
        def call(residuals: Arrays, inputs: Arrays) -> Arrays:
            arguments = jax.tree.unflatten(shared, residuals), jax.tree.unflatten(tree, inputs)
            return jax.tree.leaves(function(*arguments))

        return call

    functions = on_leaves(function, taken), on_leaves(transpose, given)
    outputs = _bind(*functions, jax.tree.leaves(residuals), jax.tree.leaves(inputs))
    return jax.tree.unflatten(given, outputs)


def _bind(
    function: LinearFunction, transpose: LinearFunction, residuals: Arrays, inputs: Arrays
) -> Arrays:
    # JAX looks for what it must prepare in the jaxprs among a primitive's parameters.
    jaxpr = jax.make_jaxpr(function)(list(residuals), list(inputs))
    return _linear_p.bind(
        *residuals,
        *inputs,
        jaxpr=jaxpr,
        function=function,
        transpose=transpose,
        count=len(residuals),
    )


def _evaluate(*arrays: Any, jaxpr: ClosedJaxpr, **_: Any) -> Arrays:
    return jaxpr_as_fun(jaxpr)(*arrays)


def _abstract(*avals: Any, jaxpr: ClosedJaxpr, **_: Any) -> Arrays:
    return jaxpr.out_avals


def _jvp(primals: Arrays, tangents: Arrays, *, jaxpr, function, transpose, count):
    residuals, inputs = primals[:count], primals[count:]
    outputs = _bind(function, transpose, residuals, inputs)
    changes = map(ad.instantiate_zeros, tangents[count:])
    output_tangents = _bind(function, transpose, residuals, [*changes])
    moving = [i for i, t in enumerate(tangents[:count]) if type(t) is not ad.Zero]
    if not moving:
        return outputs, output_tangents

    def of_residuals(*moved: jax.Array) -> Arrays:
        at = dict(zip(moving, moved, strict=True))
        return function([at.get(i, r) for i, r in enumerate(residuals)], inputs)

    at, toward = ([arrays[i] for i in moving] for arrays in (residuals, tangents))
    _, more = jax.jvp(of_residuals, at, toward)
    return outputs, [*map(jnp.add, output_tangents, more)]


def _transpose(cotangents: Arrays, *arrays: Any, jaxpr, function, transpose, count):
    cotangents = [*map(ad.instantiate_zeros, cotangents)]
    results = _bind(transpose, function, arrays[:count], cotangents)
    # An input that is known, such as a zero tangent, adds a constant, which has no cotangent.
    unknown = map(ad.is_undefined_primal, arrays[count:])
    return [None] * count + [r if u else None for r, u in zip(results, unknown, strict=True)]


def _vmap(arrays: Arrays, axes: Arrays, *, jaxpr, function, transpose, count):
    size = next(a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None)
    # Inputs and outputs are all mapped: the transpose of an input's broadcast is then JAX's.
    inputs = [
        batching.bdim_at_front(a, axis, size)
        for a, axis in zip(arrays[count:], axes[count:], strict=True)
    ]
    function, transpose = (
        jax.vmap(f, in_axes=(list(axes[:count]), 0)) for f in (function, transpose)
    )
    outputs = _bind(function, transpose, arrays[:count], inputs)
    return outputs, [0] * len(outputs)


_linear_p = Primitive("linear_map")
_linear_p.multiple_results = True
_linear_p.def_impl(_evaluate)
_linear_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
batching.primitive_batchers[_linear_p] = _vmap
mlir.register_lowering(_linear_p, mlir.lower_fun(_evaluate, multiple_results=True))
