"""Multiply-adds of a model, counted in its traced program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core


def multiply_adds(model: nnx.Module, image_size: int, in_channels: int = 3) -> int:
    """Multiply-adds of matrix products, convolutions and locally connected operators for an image.

    Norms, activations and softmax do not count, as in the paper's tables.

    Args:
      model: takes images `[B, H, W, in_channels]`; may be abstract (`nnx.eval_shape`).
      image_size: `H` and `W`.
      in_channels: channels of the image.
    """
    graph, state = nnx.split(model)
    image = jax.ShapeDtypeStruct((1, image_size, image_size, in_channels), jnp.float32)
    program = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x, train=False))
    return _count(program(state, image).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval
        return equation.outvars[0].aval.size * int(np.prod([left.shape[i] for i in contracted]))
    if equation.primitive.name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval, equation.outvars[0].aval
        features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return out.size * kernel.size // features
    if equation.params.get("name") == "locally_connected":
        x, weights = (v.aval for v in equation.invars)
        return x.size * weights.shape[3]
    if equation.params.get("name") == "logits":
        return equation.invars[0].aval.shape[-1] * equation.outvars[0].aval.size
    inner = [_count(sub) for sub in core.jaxprs_in_params(equation.params)]
    # Branches are those of platforms; the last, for platforms without one of their own, is plain.
    return inner[-1] if equation.primitive.name == "cond" else sum(inner)
