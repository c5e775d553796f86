"""Paths that users type, files that appear whole or not at all, and JSON that may be damaged."""

import contextlib
import io
import json
import os
from typing import Any

from etils import epath

from dwconv_jax.errors import UserError


def absolute_path(path: str | os.PathLike[str], name: str) -> epath.Path:
    """Returns a path that a user typed as an absolute one, with `~` expanded.

    Args:
      path: what the user typed.
      name: of the flag, field or argument, for the error.

    Raises:
      UserError: if the path is empty, which would mean the current directory.
    """
    if not os.fspath(path):
        raise UserError(f"{name} is empty; it must name a file or a folder")
    return epath.Path(path).expanduser().absolute()


def write_atomically(path: epath.Path, content: str | bytes) -> None:
    """Writes a file to disk under a temporary name and renames it, replacing an existing file.

    Raises:
      OSError: naming the file; an existing one is then unchanged and nothing else is left behind.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    if isinstance(content, str):
        content = content.encode()
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            with contextlib.suppress(AttributeError, io.UnsupportedOperation):  # not a local file
                os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise type(error)(error.errno, error.strerror or str(error), str(path)) from error


def read_json(path: os.PathLike[str], remedy: str = "") -> dict[str, Any]:
    """Reads a file that holds an object of JSON.

    Args:
      path: of the file.
      remedy: what to do about a damaged file, for the error.

    Raises:
      UserError: if it holds something else, or is damaged.
    """
    file = epath.Path(path)
    try:
        fields = json.loads(file.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise UserError(f"{file} is damaged ({error})" + (remedy and f"; {remedy}")) from error
    if not isinstance(fields, dict):
        raise UserError(f"{file} must hold an object of JSON, got {json.dumps(fields)[:80]}")
    return fields


def with_tuples(value: Any) -> Any:
    """Turns the lists in what JSON holds back into tuples."""
    if isinstance(value, dict):
        return {name: with_tuples(entry) for name, entry in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value
