"""Connectivities from plain values, as config files hold them."""

from typing import Any, TypedDict

from dwconv_jax.errors import UserError
from dwconv_jax.ops.connectivity import Connectivity, Global, Pair, Sliding, Window, as_pair

# The class of each name, and its arguments by the flags that they come from.
CONNECTIVITIES: dict[str, tuple[type[Connectivity], dict[str, str]]] = {
    "sliding": (Sliding, dict(kernel_size="kernel_size", dilation="dilation")),
    "window": (Window, dict(kernel_size="window_size", shift="shift", shrink="shrink")),
    "global": (Global, {}),
}


def make_connectivity(
    connectivity: str | Connectivity,
    *,
    kernel_size: int | Pair,
    shift: int | Pair,
    dilation: int | Pair,
    shrink: bool,
) -> Connectivity:
    """The connectivity that the flags of `LocallyConnected` describe.

    Raises:
      UserError: for an unknown name, or a flag that does not go with the connectivity.
    """
    kind, arguments = _find(connectivity)
    flags: dict[str, Any] = dict(
        kernel_size=kernel_size, shift=shift, dilation=dilation, shrink=shrink
    )
    defaults = dict(shift=(0, 0), dilation=(1, 1))
    for flag, default in defaults.items():
        if flag not in arguments and as_pair(flag, flags[flag], default[0]) != default:
            owners = [repr(name) for name, (_, taken) in CONNECTIVITIES.items() if flag in taken]
            raise UserError(
                f"{flag}={flags[flag]!r} needs connectivity={' or '.join(owners)}, "
                f"got {connectivity!r}"
            )
    if isinstance(connectivity, Connectivity):
        return connectivity
    return kind(**{argument: flags[flag] for flag, argument in arguments.items()})


def connectivity_class(connectivity: str | Connectivity) -> type[Connectivity]:
    """The class that a name stands for, or that of an object."""
    return _find(connectivity)[0]


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
    groups: Any
    channels_per_group: Any  # in place of `groups`
    num_heads: Any  # in place of `groups`
    share_positions: bool | None
    dynamic: Any
    map_size: Any
    reduction: int
    shrink_windows: bool
    lowering: Any
