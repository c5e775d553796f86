"""Every operator and lowering against its definition in float64, which the host computes."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.problems import Problem, arguments, problems, with_gradients
from benchmarks.gpu.stages.case import Case, Settings
from dwconv_jax.errors import UserError

# Of the largest difference over the largest value. bfloat16 rounds attention weights and results.
_BOUNDS = {"float32": 1e-5, "bfloat16": 2e-2}


def cases(settings: Settings) -> Sequence[Case]:
    """A case for each problem and candidate."""
    return [
        Case(f"{name}: {candidate}", functools.partial(check, problem, candidate))
        for name, problem in problems(settings.dry_run).items()
        for candidate in problem.candidates
    ]


def check(problem: Problem, candidate: str) -> Iterator[dict[str, Any]]:
    """The errors of a candidate in both dtypes."""
    # Otherwise GPUs multiply float32 as TF32, with 10 bits.
    jax.config.update("jax_default_matmul_precision", "highest")
    expected = _expected(problem.definition, *arguments(problem))
    function = functools.partial(with_gradients, problem.candidates[candidate])
    for dtype, bound in _BOUNDS.items():
        arrays = [jnp.asarray(a, dtype) for a in arguments(problem)]
        try:
            found = jax.jit(function)(*arrays)
        except UserError as error:  # a lowering may not cover this problem
            yield {"skipped": str(error)}
            return
        for what, actual, wanted in zip(("forward", "gradients"), found, expected, strict=True):
            difference = max(map(relative_error, jax.tree.leaves(actual), jax.tree.leaves(wanted)))
            yield {f"{dtype} {what}": difference}
            if not difference <= bound:
                yield {"error": f"{dtype} {what}: {difference:.1e}, allowed are {bound:.0e}"}


def _expected(definition: Any, *arrays: np.ndarray) -> Any:
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        found = jax.jit(functools.partial(with_gradients, definition))(*arrays)
        return jax.tree.map(np.asarray, found)


def relative_error(actual: Any, expected: Any) -> float:
    """`max|a - b| / max|b|`; infinite where `actual` is not finite or has another shape."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
