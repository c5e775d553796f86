"""The lowerings that a caller may ask for."""

from typing import Literal, get_args

Lowering = Literal["auto", "pallas"]
LOWERINGS = get_args(Lowering)
