"""Declares configuration fields: type, default, meaning and legal values of each in one place.

A group of fields is a frozen dataclass derived from `Settings`, each field declared with `setting`:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MixConfig(Settings):
        path = "config.mix"
        mixup_alpha: float = setting(0.0, "Beta parameter of mixup; 0 turns it off.", at_least(0.0))

Values are checked when an instance is made. The defaults of a run, its checks and the reference
page of all fields are derived from these declarations.
"""

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, Self

from dwconv_jax.errors import UserError


class Check(Protocol):
    """Tells legal values of a field from others.

    Attributes:
      words: what a legal value is, for documentation; continues "must be".
    """

    @property
    def words(self) -> str: ...  # noqa: D102

    def complaint(self, value: Any) -> str | None:
        """What is wrong with a value, continuing "field=value"; None if it is legal."""


@dataclasses.dataclass(frozen=True)
class Legal:
    """A check by a predicate; a TypeError in it means that the value is not legal."""

    words: str
    allows: Callable[[Any], bool]

    def complaint(self, value: Any) -> str | None:
        """See `Check`."""
        try:
            legal = self.allows(value)
        except TypeError:
            legal = False
        return None if legal else f"must be {self.words}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A check for one of a few names, which suggests similar ones.

    Attributes:
      names: returns the names; called only when a value is checked.
    """

    names: Callable[[], Iterable[str]]

    @property
    def words(self) -> str:
        """See `Check`."""
        return f"one of {', '.join(map(repr, self.names()))}"

    def complaint(self, value: Any) -> str | None:
        """See `Check`."""
        names = tuple(self.names())
        return None if value in names else unknown(value, names)


def unknown(value: Any, known: Iterable[str], legal: str | None = None) -> str:
    """Says that a name is unknown, with close matches; continues "field=value".

    Args:
      value: the name.
      known: all legal names.
      legal: describes them; lists them if None.
    """
    known = list(known)
    close = difflib.get_close_matches(str(value), known, n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"is unknown; legal: {legal or ', '.join(known)}{hint}"


# ---- Checks.


def is_int(value: Any) -> bool:
    """Whether a value is an int; bools are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a float, or an int within their range; bools and NaN are not."""
    if is_int(value):
        return abs(value) <= sys.float_info.max
    return isinstance(value, float) and not math.isnan(value)


def is_finite(value: Any) -> bool:
    """Whether a value is a number and neither infinite nor NaN; bools are not."""
    return is_number(value) and math.isfinite(value)


def is_positive(value: Any) -> bool:
    """Whether a value is a positive int of 32 bits."""
    return is_int(value) and 0 < value < 2**31


def is_pair(value: Any) -> bool:
    """Whether a value holds two values."""
    return isinstance(value, tuple | list) and len(value) == 2


def one_of(*names: str) -> Choice:
    """One of the given names."""
    return Choice(lambda: names)


def int_from(least: int) -> Legal:
    """An int of at least `least`."""
    return Legal(f"an int >= {least}", lambda value: is_int(value) and value >= least)


def number_from(least: float) -> Legal:
    """A number of at least `least`."""
    return Legal(f"a number >= {least}", lambda value: is_number(value) and value >= least)


def number_in(low: float, high: float) -> Legal:
    """A number in a closed interval."""
    return Legal(
        f"a number in {low}..{high}", lambda value: is_number(value) and low <= value <= high
    )


def numbers(words: str, allows: Callable[[Sequence[float]], bool]) -> Legal:
    """A tuple of finite numbers for which `allows` holds."""
    return Legal(
        words,
        lambda value: (
            isinstance(value, tuple | list) and all(map(is_finite, value)) and allows(value)
        ),
    )


NAME = Legal(
    "a non-empty string of printable characters",
    lambda value: isinstance(value, str) and value != "" and value.isprintable(),
)
POSITIVE = Legal("a positive int below 2**31", is_positive)
POSITIVE_NUMBER = Legal("a positive number", lambda value: is_number(value) and value > 0)
_OF_TYPE = {
    bool: Legal("True or False", lambda value: isinstance(value, bool)),
    int: Legal("an int", is_int),
    float: Legal("a number", is_number),
    str: Legal("a string", lambda value: isinstance(value, str)),
}

# ---- Declarations.


def setting(
    default: Any, doc: str, check: Check | None = None, *, operational: bool = False
) -> Any:
    """Declares a field of a `Settings` class.

    A field whose type admits None may be None, whatever `check` says.

    Args:
      default: the default.
      doc: what the field means, in Markdown.
      check: the legal values; by default any value of the field's type.
      operational: whether the field does not change what a run learns, so that a resumed run or an
        evaluation may use another value.
    """
    metadata = {"doc": doc, "check": check, "operational": operational}
    return dataclasses.field(default=default, metadata=metadata)


def group_of(field: dataclasses.Field) -> "type[Settings] | None":
    """The class of a field that holds a group of fields; None for others."""
    kind = field.type
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def check_of(field: dataclasses.Field) -> Check:
    """The check of a declared field."""
    optional = isinstance(field.type, types.UnionType)  # "X | None", the only unions in use
    kind: Any = typing.get_args(field.type)[0] if optional else field.type
    check: Check = field.metadata["check"] or _OF_TYPE[kind]
    if not optional:
        return check
    return Legal(
        f"None or {check.words}", lambda value: value is None or check.complaint(value) is None
    )


class Settings:
    """Base of the frozen dataclasses that declare a group of configuration fields.

    Attributes:
      path: where the group is in a config, for errors.
      accepts_more: whether a config may have fields that are not declared.
    """

    path: ClassVar[str]
    accepts_more: ClassVar[bool] = False
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]

    def __post_init__(self) -> None:
        """Checks every field; subclasses add checks across fields.

        Raises:
          UserError: for an illegal value; names the field, the value and what is legal.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not group_of(field) and (complaint := check_of(field).complaint(value)):
                raise UserError(f"{self.path}.{field.name}={value!r} {complaint}")

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Checks an `ml_collections.ConfigDict` or a dict with every field of the group.

        Args:
          config: the fields and nested groups; an instance of this class is returned as it is.

        Raises:
          UserError: a field is missing, unknown or has an illegal value.
        """
        if isinstance(config, cls):
            return config
        if not hasattr(config, "items"):
            raise UserError(f"{cls.path} must hold fields, got {config!r}")
        values: dict[str, Any] = dict(config.items())
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if not cls.accepts_more:
            for name in values.keys() - fields.keys():
                close = difflib.get_close_matches(name, fields, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise UserError(
                    f"unknown field {cls.path}.{name}; {hint}known: {', '.join(sorted(fields))}"
                )
        if missing := [name for name in fields if name not in values]:
            raise UserError(
                f"{cls.path} lacks {', '.join(missing)}; it must have {', '.join(fields)}"
            )
        for name, field in fields.items():
            if group := group_of(field):
                values[name] = group.from_config(values[name])
        return cls(**{name: values[name] for name in fields})
