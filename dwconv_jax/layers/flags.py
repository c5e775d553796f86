"""Connectivities from plain values, as config files hold them."""

from typing import Any, TypedDict

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Connectivity, Global, Grid, Sliding, Window

# The class of each name, and its arguments by the flags that they come from.
CONNECTIVITIES: dict[str, tuple[type[Connectivity], dict[str, str]]] = {
    "sliding": (
        Sliding,
        dict(kernel_size="kernel_size", dilation="dilation", stride="stride", border="border",
             causal="causal"),
    ),
    "window": (Window, dict(kernel_size="window_size", shift="shift", shrink="shrink")),
    "grid": (Grid, dict(kernel_size="grid_size")),
    "global": (Global, {}),
}  # fmt: skip

# What a flag is where it says nothing; a tuple of it for each axis says nothing either.
DEFAULTS: dict[str, Any] = dict(shift=0, dilation=1, stride=1, border="zero", causal=False)


def make_connectivity(
    connectivity: str | Connectivity, *, kernel_size: Any, shrink: bool, **flags: Any
) -> Connectivity:
    """The connectivity that the flags of `LocallyConnected` describe.

    Args:
      connectivity: a name, or an object, which is returned.
      kernel_size: of the kernel, the window or the grid.
      shrink: see `Window`.
      **flags: the others, named as in `DEFAULTS`.

    Raises:
      UserError: for an unknown name, or a flag that does not go with the connectivity.
    """
    kind, arguments = _find(connectivity)
    for flag, value in flags.items():
        entries = value if isinstance(value, (tuple, list)) else (value,)
        if flag not in arguments and any(entry != DEFAULTS[flag] for entry in entries):
            owners = [repr(name) for name, (_, taken) in CONNECTIVITIES.items() if flag in taken]
            raise UserError(
                f"{flag}={value!r} needs connectivity={' or '.join(owners)}, got {connectivity!r}"
            )
    if isinstance(connectivity, Connectivity):
        return connectivity
    flags = dict(kernel_size=kernel_size, shrink=shrink, **flags)
    return kind(**{argument: flags[flag] for flag, argument in arguments.items() if flag in flags})


def takes_shift(connectivity: str | Connectivity) -> bool:
    """Whether the flag `shift` goes with it."""
    return "shift" in _find(connectivity)[1]


def _find(connectivity: object) -> tuple[type[Connectivity], dict[str, str]]:
    if isinstance(connectivity, Connectivity):
        return type(connectivity), {}
    if isinstance(connectivity, str) and connectivity in CONNECTIVITIES:
        return CONNECTIVITIES[connectivity]
    raise UserError(
        f"connectivity must be one of {', '.join(map(repr, CONNECTIVITIES))} or a subclass of "
        f"ops.Connectivity, got {connectivity!r}"
    )


class MixerFlags(TypedDict, total=False):
    """Flags of `LocallyConnected` that a model passes on, each a value or one for each stage."""

    connectivity: str | Connectivity
    kernel_size: Any
    shift: Any
    dilation: Any
    stride: Any
    border: Any
    causal: Any
    groups: Any
    channels_per_group: Any  # in place of `groups`
    num_heads: Any  # in place of `groups`
    share_positions: bool | None
    dynamic: Any
    attention: Any
    map_size: Any
    reduction: int
    shrink_windows: bool
    lowering: Any
