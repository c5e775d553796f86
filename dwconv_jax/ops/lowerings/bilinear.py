"""Functions that are linear in each of two arrays, as primitives of JAX.

JAX's autodiff would derive slow gradients from the fast forms, and a custom VJP rules out forward
mode. A bilinear primitive is its own derivative in either array, and its transposes are bilinear
primitives too: both modes work, to any order.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

Static = ParamSpec("Static")
# `(cotangent, x, y, *static)` to the cotangent of `x` or `y`, of which only the type is given.
Transpose = Callable[..., jax.Array]
# `(size, x, y, *static)`, `[size or 1, B, ...]` and `[size or 1, B or 1, ...]`, to `[size, ...]`.
BatchingRule = Callable[..., jax.Array]


class Bilinear(Generic[Static]):
    """Decorates `compute(x, y, *static)`, which is linear in `x` and in `y`.

    `static` must be hashable. The first axis of `x` and of the result holds images. So does that of
    `y`, unless it is 1: then all images share it. Under `vmap`, the mapped axis joins the images;
    functions that differ set a rule with `def_vmap`.
    """

    def __init__(self, compute: Callable[Concatenate[jax.Array, jax.Array, Static], jax.Array]):
        functools.update_wrapper(self, compute)
        self._signature = inspect.signature(compute)
        static = range(2, len(self._signature.parameters))
        self._compute = jax.jit(compute, static_argnums=tuple(static))
        self._vmap: BatchingRule = self._vmap_images
        self._primitive = core.Primitive(compute.__name__.lstrip("_"))
        self._primitive.def_impl(self._run)
        self._primitive.def_effectful_abstract_eval(  # Pallas's interpreter has effects
            lambda x, y, *, static, program: (program.out_avals[0], program.effects)
        )
        lowering = mlir.lower_fun(self._run, multiple_results=False)
        mlir.register_lowering(self._primitive, lowering)
        batching.primitive_batchers[self._primitive] = self._batch

    def __call__(
        self, x: jax.Array, y: jax.Array, *args: Static.args, **kwargs: Static.kwargs
    ) -> jax.Array:
        """Binds the primitive, for `x` and `y` of the same dtype."""
        arguments = self._signature.bind(*equally_varying(x, y), *args, **kwargs)
        arguments.apply_defaults()
        x, y, *static = arguments.args
        # As a parameter, the program can be found by code that walks jaxprs to count operations.
        program = self._compute.trace(x, y, *static).jaxpr
        return self._primitive.bind(x, y, static=tuple(static), program=program)

    def def_transposes(self, in_x: Transpose, in_y: Transpose) -> None:
        """Sets the transposes in `x` and in `y`; see `Transpose`."""

        def to_x(cotangent: jax.Array, x: Any, y: Any, *, static: Any, program: Any) -> jax.Array:
            del program
            return in_x(cotangent, x.aval, y, *static)

        def to_y(cotangent: jax.Array, x: Any, y: Any, *, static: Any, program: Any) -> jax.Array:
            del program
            return in_y(cotangent, x, y.aval, *static)

        ad.defbilinear(self._primitive, to_x, to_y)

    def def_vmap(self, rule: BatchingRule) -> BatchingRule:
        """Decorates a batching rule; see `BatchingRule`."""
        self._vmap = rule
        return rule

    def _run(self, x: jax.Array, y: jax.Array, *, static: Any, program: Any) -> jax.Array:
        del program
        return self._compute(x, y, *static)

    def _batch(self, arrays: Any, axes: Any, *, static: Any, program: Any) -> tuple[jax.Array, int]:
        del program
        mapped = [axis is not None for axis in axes]
        x, y = (
            jnp.moveaxis(a, axis, 0) if m else a[None]
            for a, axis, m in zip(arrays, axes, mapped, strict=True)
        )
        return self._vmap((x if mapped[0] else y).shape[0], x, y, *static), 0

    def _vmap_images(
        self, size: int, x: jax.Array, y: jax.Array, *args: Static.args, **kwargs: Static.kwargs
    ) -> jax.Array:
        batch = x.shape[1]
        y = y[0] if y.shape[:2] == (1, 1) else merge_batches(y, size, batch)
        result = self(merge_batches(x, size, batch), y, *args, **kwargs)
        return result.reshape(size, batch, *result.shape[1:])


def merge_batches(array: jax.Array, size: int, batch: int) -> jax.Array:
    """`[size or 1, batch or 1, ...]` to `[size * batch, ...]`."""
    rest = array.shape[2:]
    return jnp.broadcast_to(array, (size, batch, *rest)).reshape(size * batch, *rest)


def equally_varying(*arrays: jax.Array) -> list[jax.Array]:
    """Casts arrays to vary over the same axes of `shard_map`, so that cotangents are summed."""
    varying = [jax.typeof(array).mat.varying for array in arrays]
    union = frozenset().union(*varying)
    return [
        lax.pcast(array, tuple(union - own), to="varying") if union - own else array
        for array, own in zip(arrays, varying, strict=True)
    ]
