"""Detects corrupted checkpoints by SHA-256.

Orbax and TensorStore notice missing and truncated files, but not every changed byte. The list in a
checkpoint works with `sha256sum --check SHA256SUMS`.
"""

import hashlib

from etils import epath

_LIST = "SHA256SUMS"
_CHUNK = 2**20


def write_checksums(directory: epath.Path) -> None:
    """Writes the checksums of all files in the subfolders of a directory into it."""
    lines = (f"{checksum(directory / name)}  {name}\n" for name in _names(directory))
    (directory / _LIST).write_text("".join(lines))


def has_checksums(directory: epath.Path) -> bool:
    """Whether `write_checksums` was called for a directory."""
    return (directory / _LIST).exists()


def find_damage(directory: epath.Path, part: str = "") -> str | None:
    """Compares the files of a directory with their checksums.

    Args:
      directory: one that `write_checksums` was called for.
      part: prefix of the names of the files to compare; by default all.

    Returns:
      The first difference in words, or None.
    """
    try:
        lines = (directory / _LIST).read_text().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return f"{_LIST} is missing or unreadable"
    entries = [line.split("  ", 1) for line in lines if "  " in line]
    listed = {name: written for written, name in entries}
    present = _names(directory)
    for name in sorted(listed.keys() | present):
        if not name.startswith(part):
            continue
        if name not in present:
            return f"{name} is missing"
        if listed.get(name) != checksum(directory / name):
            return f"{name} is not what was written"
    return None


def _names(directory: epath.Path) -> list[str]:
    # Orbax still changes the files outside subfolders, which hold no arrays.
    return sorted(
        str((folder / name).relative_to(directory))
        for folder, _, names in directory.walk()
        for name in names
        if folder != directory
    )


def checksum(path: epath.Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
