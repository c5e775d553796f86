"""Where a checkpoint keeps its state dict."""

from collections.abc import Callable
from typing import Any

from dwconv_jax.errors import UserError

# What DataParallel and DistributedDataParallel put before every name.
_WRAPPER = "module."


def find_state_dict(checkpoint: object, is_tensor: Callable[[Any], bool]) -> dict[str, Any]:
    """Finds the state dict in a checkpoint.

    Args:
      checkpoint: a state dict, or a dict that holds one under 'model' or 'state_dict' next to
        anything else.
      is_tensor: whether a leaf is a tensor.

    Returns:
      The state dict, without the prefix `module.` where all names have it.

    Raises:
      ValueError: there is no state dict, it is empty, or an entry is not a tensor.
    """
    match checkpoint:
        case {"model": dict(state_dict)} | {"state_dict": dict(state_dict)} | dict(state_dict):
            pass
        case _:
            raise UserError(f"holds a {type(checkpoint).__name__}: legal is a state dict")
    if not state_dict:
        raise UserError("holds no tensors")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not is_tensor(value):
            raise UserError(
                f"entry {name!r} has type {type(value).__name__}: legal is a state dict of names "
                "and tensors, alone or under 'model' or 'state_dict'"
            )
    prefix = _WRAPPER if all(name.startswith(_WRAPPER) for name in state_dict) else ""
    return {name.removeprefix(prefix): value for name, value in state_dict.items()}
