"""Tells damaged directories by a list of checksums that they hold.

Orbax and TensorStore notice files that are missing or cut short, but not every changed byte. The
list is one for `sha256sum --check SHA256SUMS`.
"""

import hashlib

from etils import epath

_LIST = "SHA256SUMS"
_CHUNK = 2**20


def write_checksums(directory: epath.Path) -> None:
    """Adds a list of the files in the folders of a directory, and their checksums, to it."""
    lines = (f"{_checksum(directory / name)}  {name}\n" for name in _names(directory))
    (directory / _LIST).write_text("".join(lines))


def find_damage(directory: epath.Path, part: str = "") -> str | None:
    """The first difference between the files of a directory and their list, in words.

    Args:
      directory: what `write_checksums` has seen.
      part: how the names of the files to look at begin; by default all.

    Returns:
      None if there is no difference.
    """
    try:
        lines = (directory / _LIST).read_text().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return f"{_LIST} is missing or unreadable"
    entries = [line.split("  ", 1) for line in lines if "  " in line]
    listed = {name: checksum for checksum, name in entries}
    present = _names(directory)
    for name in sorted(listed.keys() | present):
        if not name.startswith(part):
            continue
        if name not in present:
            return f"{name} is missing"
        if listed.get(name) != _checksum(directory / name):
            return f"{name} is not what was written"
    return None


def _names(directory: epath.Path) -> list[str]:
    # Files outside of folders are Orbax's notes, which it still changes; no value is read of them.
    return sorted(
        str((folder / name).relative_to(directory))
        for folder, _, names in directory.walk()
        for name in names
        if folder != directory
    )


def _checksum(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
