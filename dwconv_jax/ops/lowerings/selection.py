"""The lowerings that a caller may ask for, and what Pallas covers of the operator."""

from typing import Literal, get_args

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Connectivity, Sliding

Lowering = Literal["auto", "pallas"]
LOWERINGS = get_args(Lowering)


def check_pallas(connectivity: Connectivity, dynamic: str, per_position: bool) -> None:
    """ValueError where `lowering="pallas"` has no kernel.

    Args:
      connectivity: which positions connect.
      dynamic: where the weights come from, as `LocallyConnected` spells it.
      per_position: whether each position has weights of its own.
    """
    if isinstance(connectivity, Sliding) and not (per_position and dynamic == "none"):
        return
    found = f"{connectivity} with dynamic={dynamic!r} weights"
    found += " of each position" if per_position else ""
    raise UserError(
        "lowering='pallas' has kernels for sliding connectivity, with dynamic weights or "
        f"static ones that positions share, got {found}; use lowering='auto'"
    )
