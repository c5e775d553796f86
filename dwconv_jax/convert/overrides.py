"""Arguments of `create_model` from a command line."""

import collections.abc
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from dwconv_jax.errors import UserError
from dwconv_jax.models import create_model
from dwconv_jax.models.registry import find_variant


def check_overrides(name: str, overrides: Mapping[str, Any]) -> None:
    """Compares overrides with the types of the arguments that they set.

    Unknown names are left to `create_model`.

    Args:
      name: of the model.
      overrides: for `create_model`.

    Raises:
      UserError: names the first override of another type, and the type that it must have.
    """
    hints = typing.get_type_hints(find_variant(name)[1].Config)
    hints |= typing.get_type_hints(create_model)
    for argument, value in overrides.items():
        if not _is_of(value, hints.get(argument, Any)):
            legal = inspect.formatannotation(hints[argument]).replace("collections.abc.", "")
            raise UserError(f"--override={argument}={value!r} must be of type {legal}")


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a Python literal is of an annotated type; lists pass for tuples, ints for floats."""
    kind, of = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(_is_of(value, option) for option in of)
    if kind is collections.abc.Sequence:
        return isinstance(value, (tuple, list)) and all(_is_of(entry, *of) for entry in value)
    if kind is tuple:
        same_length = isinstance(value, (tuple, list)) and len(value) == len(of)
        return same_length and all(map(_is_of, value, of))
    if kind is float:
        return type(value) in (int, float)
    if kind is int:
        return type(value) is int
    return not isinstance(kind, type) or kind is Any or isinstance(value, kind)
