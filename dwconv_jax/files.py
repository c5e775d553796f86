"""Files that appear whole or not at all."""

from etils import epath


def write_atomically(path: epath.Path, content: str | bytes) -> None:
    """Writes a file under a temporary name and renames it, replacing an existing file."""
    unfinished = path.with_name(f"{path.name}.tmp")
    if isinstance(content, str):
        content = content.encode()
    unfinished.write_bytes(content)
    unfinished.replace(path)
