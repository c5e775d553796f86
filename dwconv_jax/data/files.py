"""Lists the images of folders, and says what it leaves out."""

import logging
import os

import tensorflow as tf

from dwconv_jax.data.image.formats import SUFFIXES
from dwconv_jax.errors import UserError

_log = logging.getLogger("dwconv_jax")


def list_names(folder: str) -> list[str]:
    """The names of the files and folders in a folder, sorted; hidden ones are left out.

    Raises:
      UserError: a name is not UTF-8.
    """
    return [name for name in all_names(folder) if not name.startswith(".")]


def all_names(folder: str) -> list[str]:
    """The names of all files and folders in a folder, sorted; see `list_names`."""
    try:
        # Object stores append a slash to the names of folders.
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{folder} has a file whose name is not UTF-8, {error.object!r}; rename it"
        ) from error


def list_images(folder: str) -> list[str]:
    """The names of the images in a folder, sorted; a warning counts what is left out.

    Raises:
      UserError: a name is not UTF-8.
      FileNotFoundError: there are no images.
    """
    names = list_names(folder)
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not images:
        raise FileNotFoundError(
            f"{folder} has no images; legal file names end in {', '.join(SUFFIXES)}"
        )
    if others := sorted(set(names) - set(images)):
        folders = sum(tf.io.gfile.isdir(os.path.join(folder, name)) for name in others)
        files = len(others) - folders
        counts = [f"{counted(files, 'file')} of other formats"] if files else []
        counts += [counted(folders, "folder")] if folders else []
        warn_left_out(folder, " and ".join(counts), f"image files end in {', '.join(SUFFIXES)}")
    return images


def counted(count: int, noun: str) -> str:
    """A count and its noun, such as "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def warn_left_out(folder: str, what: str, legal: str) -> None:
    """Warns that something in a folder is not read."""
    _log.warning("left %s out of %s (%s)", what, folder, legal)
