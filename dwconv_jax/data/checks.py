"""Checks of a data set's configuration; every error names the field and what is legal."""

from collections.abc import Callable
from typing import Any

from dwconv_jax.errors import UserError


def require_fields(config: Any, protocol: type) -> None:
    """Raises a ValueError if `config` lacks a field of `protocol`."""
    fields = protocol.__annotations__
    if missing := [field for field in fields if not hasattr(config, field)]:
        raise UserError(f"dataset lacks {', '.join(missing)}; it must have {', '.join(fields)}")


def require(config: Any, field: str, legal: Callable[[Any], bool], wanted: str) -> None:
    """Raises a ValueError if the value of a field is not legal, or of a type that cannot be."""
    value = getattr(config, field)
    try:
        fits = legal(value)
    except TypeError:
        fits = False
    if not fits:
        raise UserError(f"dataset.{field}={value!r} must be {wanted}")


def check_colours(config: Any) -> None:
    """Checks `mean` and `std` of colour images."""
    for field in ("mean", "std"):
        require(
            config,
            field,
            lambda value: len(value) == 3 and all(0 <= number <= 1 for number in value),
            "three numbers in 0..1 (pixel 255 is 1)",
        )
    require(config, "std", lambda std: 0 not in std, "without a 0")


def is_name(value: Any) -> bool:
    """Whether it is a string that is not empty."""
    return isinstance(value, str) and bool(value)


def is_flag(value: Any) -> bool:
    """Whether it is True or False."""
    return isinstance(value, bool)


def is_positive(value: Any) -> bool:
    """Whether it is an int above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_pair(value: Any) -> bool:
    """Whether it holds two values."""
    return isinstance(value, tuple | list) and len(value) == 2


def is_descending(value: Any) -> bool:
    """Whether it is a pair of positive ints, the larger one first."""
    return is_pair(value) and all(map(is_positive, value)) and value[0] >= value[1]
