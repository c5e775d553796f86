"""Arguments with one entry for each axis."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

from dwconv_jax.errors import UserError

Pair = tuple[int, int]
Size = tuple[int, ...]
MAX_AXES = 3


def num_axes_of(**arguments: Any) -> int:
    """The number of axes that the tuples among the arguments have; 2 if there is no tuple.

    Raises:
      UserError: for tuples of unequal length, or of more entries than there can be axes.
    """
    lengths = {
        name: len(value) for name, value in arguments.items() if isinstance(value, (tuple, list))
    }
    if not lengths:
        return 2
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name}={arguments[name]!r}" for name in lengths)
        raise UserError(f"tuples must have one entry for each axis, got {given}")
    name, length = next(iter(lengths.items()))
    if not 1 <= length <= MAX_AXES:
        raise UserError(
            f"{name} must have 1 to {MAX_AXES} entries, one for each axis, got {arguments[name]!r}"
        )
    return length


def entries(
    name: str, value: Any, num_axes: int, is_legal: Callable[[Any], bool], legal: str
) -> tuple[Any, ...]:
    """`value`, or one copy of it for each axis, as a tuple.

    Args:
      name: of the argument, for errors.
      value: one entry for all axes, or a tuple with one for each.
      num_axes: how many axes there are.
      is_legal: whether an entry is.
      legal: what is legal, in words.

    Raises:
      UserError: naming the argument.
    """
    each = tuple(value) if isinstance(value, (tuple, list)) else (value,) * num_axes
    if len(each) != num_axes or not all(map(is_legal, each)):
        axes = {1: "(l,)", 2: "(h, w)", 3: "(d, h, w)"}[num_axes]
        raise UserError(f"{name} must be {legal}, or a tuple of them {axes}, got {value!r}")
    return each


def at_least(minimum: int) -> Callable[[Any], bool]:
    """Tells ints of at least `minimum`."""

    def is_legal(entry: Any) -> bool:
        return isinstance(entry, Integral) and not isinstance(entry, bool) and int(entry) >= minimum

    return is_legal


def per_axis(name: str, value: Any, minimum: int, num_axes: int) -> Size:
    """Ints of at least `minimum`, one for each axis; UserError names the argument."""
    each = entries(name, value, num_axes, at_least(minimum), f"an int >= {minimum}")
    return tuple(int(entry) for entry in each)


def as_pair(name: str, value: int | Pair, minimum: int) -> Pair:
    """An int or an `(h, w)` pair as a pair; UserError names the argument."""
    height, width = per_axis(name, value, minimum, 2)
    return height, width
