"""Names parameters by patterns: regular expressions searched in paths like "head/kernel"."""

import re
from collections.abc import Sequence
from typing import Any

import jax

from dwconv_jax.data.settings import Legal, unknown
from dwconv_jax.errors import UserError


def is_pattern(value: Any) -> bool:
    """Whether a value is a regular expression, and not empty."""
    try:
        return isinstance(value, str) and value != "" and re.compile(value) is not None
    except re.error:
        return False


PATTERNS = Legal(
    "a tuple of regular expressions",
    lambda value: isinstance(value, tuple | list) and all(map(is_pattern, value)),
)


def path_name(path: Sequence[Any]) -> str:
    """The name of a parameter at a path of JAX's keys, such as "stages/0/blocks/1/norm/scale"."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def matching(params: Any, patterns: Sequence[str], field: str) -> Any:
    """Marks the parameters in whose path at least one pattern is found.

    Args:
      params: nested dicts; the leaves do not matter.
      patterns: regular expressions, searched as `re.search` does, so that plain words work.
      field: where the patterns come from, for errors.

    Returns:
      A tree like `params`, of bools.

    Raises:
      UserError: a pattern is found in no path; lists the words that paths are made of.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            words = {word for name in names for word in name.split("/") if not word.isdigit()}
            raise UserError(
                f"{field}={tuple(patterns)!r}: {pattern!r} is in the path of no parameter; it "
                f"{unknown(pattern, sorted(words))}"
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(re.search(pattern, path_name(path)) for pattern in patterns), params
    )
