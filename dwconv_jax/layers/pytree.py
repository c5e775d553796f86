"""How named tuples stand in trees of arrays."""

from typing import Any, TypeVar

import jax
from jax.tree_util import SequenceKey

Tuple = TypeVar("Tuple", bound=tuple[Any, ...])


def keyed_by_position(cls: type[Tuple]) -> type[Tuple]:
    """Gives the fields of a `NamedTuple` indices in the paths of a tree, as tuples have them.

    `nnx.tabulate` draws the arguments and results of every module, and fails for names inside of
    sequences.
    """

    def flatten_with_keys(fields: Tuple) -> tuple[list[tuple[SequenceKey, Any]], None]:
        return [(SequenceKey(i), field) for i, field in enumerate(fields)], None

    jax.tree_util.register_pytree_with_keys(
        cls, flatten_with_keys, lambda _, fields: cls(*fields), lambda fields: (tuple(fields), None)
    )
    return cls
