"""The lowerings that a caller may ask for, and what their kernels cover."""

from typing import Literal, get_args

Lowering = Literal["auto", "pallas", "cuda"]
LOWERINGS = get_args(Lowering)
COVERAGE = {
    "pallas": "sliding connectivity over two axes with zero borders and stride 1, with dynamic "
    "weights or static ones that positions share",
    "cuda": "sliding connectivity with stride 1, zero or cyclic borders or causal axes, with "
    "weights that positions share",
}
