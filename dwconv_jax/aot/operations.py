"""Counts the arithmetic of a traced program, before compilation."""

import dataclasses
import math
from typing import Any

import jax
from jax.extend import core

# One operation an element of the result.
_ELEMENTWISE = {
    "add", "add_any", "sub", "mul", "div", "max", "min", "neg", "abs", "sign", "square", "sqrt",
    "rsqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "erf", "pow",
    "integer_pow", "sin", "cos", "floor", "round", "clamp", "select_n",
    "eq", "ne", "lt", "le", "gt", "ge",
}  # fmt: skip
# One operation an element of the operand.
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "argmax", "argmin", "cumsum"}


@dataclasses.dataclass(frozen=True)
class Operations:
    """Arithmetic operations; a multiplication and an addition are two.

    Attributes:
      matrix: of matrix products and of convolutions that mix channels.
      vector: of depth-wise convolutions and elementwise operations.
    """

    matrix: int = 0
    vector: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.matrix + other.matrix, self.vector + other.vector)

    def divided_by(self, devices: int) -> "Operations":
        """Returns the share of one of several devices."""
        return Operations(self.matrix // devices, self.vector // devices)

    def times(self, count: int) -> "Operations":
        """Returns the operations of `count` repetitions."""
        return Operations(self.matrix * count, self.vector * count)


def count_operations(jaxpr: core.Jaxpr) -> Operations:
    """Counts the operations of all devices together; loops of unknown length count once.

    Of a function with one form per platform, the default one counts.
    """
    total, platform_indices = Operations(), set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "platform_index":
            platform_indices.add(equation.outvars[0])
        elif equation.primitive.name == "cond" and equation.invars[0] in platform_indices:
            total += count_operations(equation.params["branches"][-1].jaxpr)
        else:
            total += _count(equation)
    return total


def _count(equation: Any) -> Operations:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return Operations(matrix=2 * _size(equation.outvars[0]) * _contracted(equation))
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name in _ELEMENTWISE:
        return Operations(vector=_size(equation.outvars[0]))
    if name in _REDUCTIONS:
        return Operations(vector=_size(equation.invars[0]))
    bodies = [count_operations(body) for body in core.jaxprs_in_params(params)]
    if name == "cond":
        return max(bodies, key=lambda operations: (operations.matrix, operations.vector))
    return sum(bodies, Operations()).times(params["length"] if name == "scan" else 1)


def _contracted(equation: Any) -> int:
    (axes, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in axes)


def _convolution(equation: Any) -> Operations:
    kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
    out_features = kernel.shape[numbers.rhs_spec[0]]
    count = 2 * _size(equation.outvars[0]) * math.prod(kernel.shape) // out_features
    groups = equation.params["feature_group_count"] * equation.params["batch_group_count"]
    return Operations(vector=count) if 1 < groups == out_features else Operations(matrix=count)


def _size(variable: Any) -> int:
    return math.prod(
        jax.typeof(variable).shape if hasattr(variable, "val") else variable.aval.shape
    )
