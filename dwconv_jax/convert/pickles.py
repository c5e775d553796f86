"""Pickles as plain data: a reader and a writer that never call, import or look up anything.

`pickle.loads` runs what a file asks for. Here the functions and classes that a pickle names stay
names: applying one gives a `PickledObject`, a record of its name and arguments, whose meaning is
up to the caller. Only the opcodes that PyTorch writes are understood.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import BinaryIO

from dwconv_jax.errors import UserError


class UnsafePickleError(ValueError):
    """A pickle asks for more than data."""


@dataclass(frozen=True, slots=True)
class Global:
    """A function or class that a pickle refers to, by its dotted name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class PersistentId:
    """A reference to something stored outside the pickle."""

    id: object


@dataclass(frozen=True, slots=True, eq=False)
class PickledObject:
    """What calling `function` with `args` would give; it is never called."""

    function: str
    args: tuple


ORDERED_DICT = Global("collections.OrderedDict")

_MARK = object()
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": lambda: PickledObject("builtins.set", ()),
}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
    | {"BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"}
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def loads(
    data: bytes | BinaryIO,
    permitted: Collection[str],
    references: list[PersistentId] | None = None,
) -> object:
    """Reads a pickle without running it.

    Args:
      data: the pickle, of protocol 2 or later, or a file that is left behind its end.
      permitted: dotted names of the functions and classes that the pickle may refer to.
      references: a list to which all references to things outside the pickle are added.

    Returns:
      The pickled object, made of dicts (an `OrderedDict` becomes one too), lists, tuples, strings,
      bytes, numbers, None, `Global`, `PersistentId` and `PickledObject`. Items and state that the
      pickle adds to any other object are dropped.

    Raises:
      UnsafePickleError: the pickle refers to something that is not permitted, or uses an opcode
        that PyTorch does not write.
      ValueError: the pickle is broken.
    """
    reader = _Reader(permitted, [] if references is None else references)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            reader.step(opcode.name, argument)
        return reader.stack.pop()
    except UnsafePickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise UserError(f"its pickle is broken ({error})") from error


class _Reader:
    """The pickle machine: a stack and a memo."""

    def __init__(self, permitted: Collection[str], references: list[PersistentId]) -> None:
        self.permitted, self.references = permitted, references
        self.stack: list = []
        # A dict and not a list: the file chooses the indices, and a huge one must cost nothing.
        self.memo: dict[int, object] = {}

    def step(self, opcode: str, argument: object) -> None:
        """Executes one opcode."""
        stack = self.stack
        match opcode:
            case _ if opcode in _LITERALS:
                stack.append(argument)
            case _ if opcode in _CONSTANTS:
                stack.append(_CONSTANTS[opcode])
            case _ if opcode in _EMPTY:
                stack.append(_EMPTY[opcode]())
            case _ if opcode in _IGNORED:
                pass
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]  # type: ignore[index]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])  # type: ignore[index]
            case "TUPLE":
                stack.append(tuple(self.pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.pop(_TUPLES[opcode])))
            case "APPEND":
                self.extend(self.pop(1))
            case "APPENDS" | "ADDITEMS":
                self.extend(self.pop_to_mark())
            case "SETITEM":
                self.update(self.pop(2))
            case "SETITEMS":
                self.update(self.pop_to_mark())
            case "GLOBAL":
                stack.append(self.global_(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(self.global_(*self.pop(2)))
            case "REDUCE" | "NEWOBJ":
                stack.append(_applied(*self.pop(2)))
            case "BUILD":
                self.pop(1)
            case "BINPERSID":
                self.references.append(PersistentId(*self.pop(1)))
                stack.append(self.references[-1])
            case _:
                raise UnsafePickleError(
                    f"refuses to load: its pickle uses {opcode}, which PyTorch never writes"
                )

    def pop(self, count: int) -> list:
        if len(self.stack) < count:
            raise IndexError("the stack is too short")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def extend(self, items: list) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        else:
            _check_object(self.stack[-1])

    def update(self, items: list) -> None:
        if not isinstance(self.stack[-1], dict):
            _check_object(self.stack[-1])
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a nested tuple recurses in C: a deep one would crash the interpreter.
            if not isinstance(key, str | bytes | int | float | None):
                raise TypeError("a compound dictionary key")
            self.stack[-1][key] = value

    def global_(self, module: str, name: str) -> Global:
        dotted = f"{module}.{name}"
        if dotted not in self.permitted:
            raise UnsafePickleError(
                f"refuses to load: its pickle asks for {dotted}, and legal are tensors, plain "
                "containers and numbers (save a state dict, not a whole model)"
            )
        return Global(dotted)


def _applied(function: object, args: object) -> object:
    if not isinstance(function, Global) or not isinstance(args, tuple):
        raise TypeError("a call of what is no function")
    if function != ORDERED_DICT:
        return PickledObject(function.name, args)
    if args:
        raise TypeError("an OrderedDict with arguments")
    return {}


def _check_object(target: object) -> None:
    if not isinstance(target, PickledObject):
        raise TypeError("items for what is no container")


def dumps(tree: object) -> bytes:
    """Writes a pickle of protocol 2.

    Args:
      tree: dicts, tuples, strings, integers, booleans, None, `Global`, `PersistentId` and
        `PickledObject`, nested.

    Returns:
      The pickle, such that `pickle.loads` would call what `tree` only names.

    Raises:
      TypeError: `tree` holds an object of another type.
    """
    return pickle.PROTO + b"\x02" + _encoded(tree) + pickle.STOP


def _encoded(tree: object) -> bytes:
    match tree:
        case None:
            return pickle.NONE
        case bool():
            return pickle.NEWTRUE if tree else pickle.NEWFALSE
        case int():
            digits = pickle.encode_long(tree)
            return pickle.LONG1 + bytes([len(digits)]) + digits
        case str():
            text = tree.encode()
            return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
        case tuple():
            return pickle.MARK + b"".join(map(_encoded, tree)) + pickle.TUPLE
        case dict():
            items = b"".join(_encoded(key) + _encoded(value) for key, value in tree.items())
            return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
        case Global(name):
            module, _, attribute = name.rpartition(".")
            return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()
        case PickledObject(function, args):
            return _encoded(Global(function)) + _encoded(args) + pickle.REDUCE
        case PersistentId(id):
            return _encoded(id) + pickle.BINPERSID
    raise TypeError(f"cannot pickle a {type(tree).__name__}")
