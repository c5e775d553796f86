"""Which kernels can compute a case, the one expected to be fastest first.

The order follows static estimates, not measurements: sums in registers win for small kernels on
narrow maps, which fill products of 16 rows and 8 columns badly; the matrix unit wins elsewhere.
"""

from collections.abc import Callable, Iterable

from dwconv_jax.errors import UserError
from dwconv_jax.ops.lowerings.gpu.matrix_kernels import toeplitz, toeplitz_gradient
from dwconv_jax.ops.lowerings.gpu.plan import Case, Plan
from dwconv_jax.ops.lowerings.gpu.register_kernels import gradient, slide, tile

_NARROW = 14


def forward_plans(case: Case) -> list[Plan]:
    """Plans for the convolution, and for its gradient in the maps, the best first.

    Raises:
      UserError: if no kernel covers the case.
    """
    slides_best = max(case.kernel_size) <= 7 and case.shape[2] <= _NARROW
    kernels = (slide, toeplitz, tile) if slides_best else (toeplitz, slide, tile)
    return _covered(case, kernels)


def gradient_plans(case: Case) -> list[Plan]:
    """Plans for the gradient in the kernel, the best first.

    Raises:
      UserError: if no kernel covers the case.
    """
    return _covered(case, (toeplitz_gradient, gradient))


def _covered(case: Case, kernels: Iterable[Callable[[Case], Plan | None]]) -> list[Plan]:
    plans = [plan for kernel in kernels if (plan := kernel(case)) is not None]
    if not plans:
        raise UserError(
            f"lowering='cuda' has no kernel for {case.kernel_size[1]} columns of taps that meet "
            "the map; use lowering='auto'"
        )
    return plans
