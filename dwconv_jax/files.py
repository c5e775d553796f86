"""Paths that users type, and files that appear whole or not at all."""

import contextlib
import io
import os

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
