"""The zip format that PyTorch writes since 1.6: a pickle plus one member for each storage.

archive/data.pkl      the checkpoint, its tensors as references to storages
archive/byteorder     'little' or 'big'; little where it is missing
archive/data/<key>    the raw bytes of a storage
archive/version       '3'
"""

import math
import struct
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from dwconv_jax.convert import pickles
from dwconv_jax.convert.pickles import Global, PersistentId, PickledObject
from dwconv_jax.convert.state_dicts import find_state_dict
from dwconv_jax.convert.torch_tensors import KINDS, PERMITTED, TENSOR, is_tensor, to_array
from dwconv_jax.errors import UserError

_ALIGNMENT = 64
_LOCAL_HEADER = 30


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the state dict in a zip file that PyTorch wrote.

    Args:
      path: the file.

    Returns:
      The tensors by name, as read-only views of the storages in the file: no array is larger than
      what the file holds, except small expanded ones.

    Raises:
      ValueError: the file is damaged, not a checkpoint, or asks for more than tensors.
    """
    with path.open("rb") as file:
        try:
            archive = _Archive(zipfile.ZipFile(file), path.stat().st_size)
            checkpoint = pickles.loads(archive.member("data.pkl"), PERMITTED)
            tensors = find_state_dict(checkpoint, is_tensor)
            return {name: to_array(name, tensor, archive) for name, tensor in tensors.items()}
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
            raise UserError(f"is a damaged zip file ({error})") from error


class _Archive:
    """The members of a checkpoint's zip file."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        self.archive = archive
        members = archive.infolist()
        # Zip bombs compress, or let members overlap; PyTorch does neither.
        if (
            any(member.compress_type != zipfile.ZIP_STORED for member in members)
            or sum(member.file_size for member in members) > file_size
        ):
            raise UserError("has compressed or overlapping members, which PyTorch never writes")
        pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise UserError("is a zip file without the one data.pkl of a PyTorch checkpoint")
        self.folder = pickled[0].removesuffix("data.pkl")
        self.byteorder = "little"
        if f"{self.folder}byteorder" in archive.namelist():
            self.byteorder = self.member("byteorder").decode(errors="replace")
        if self.byteorder not in ("little", "big"):
            raise UserError(f"has byteorder {self.byteorder!r}: legal are 'little' and 'big'")
        # Tensors may share a storage, which is read once.
        self.storage = cache(self._read_storage)

    def member(self, name: str) -> bytes:
        try:
            return self.archive.read(self.folder + name)
        except KeyError as error:
            raise UserError(f"lacks its member {self.folder}{name}") from error

    def _read_storage(self, key: str, dtype: np.dtype, length: int) -> np.ndarray:
        data = self.member(f"data/{key}")
        if len(data) != length * dtype.itemsize:
            raise UserError(
                f"has {len(data)} bytes in storage {key}, which should hold {length} x {dtype}"
            )
        values = np.frombuffer(data, dtype)
        return values if self.byteorder == sys.byteorder else values.byteswap()


def write(path: Path, state_dict: dict[str, np.ndarray]) -> None:
    """Writes a state dict as `torch.save` does.

    Args:
      path: the file.
      state_dict: arrays by name, of the dtypes in `DTYPES`.
    """
    tensors = {
        name: _tensor(str(key), array) for key, (name, array) in enumerate(state_dict.items())
    }
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, "data.pkl", pickles.dumps(tensors), file.tell())
        _add(archive, "byteorder", sys.byteorder.encode(), file.tell())
        for key, array in enumerate(state_dict.values()):
            native = array.astype(array.dtype.newbyteorder("="), copy=False)
            _add(archive, f"data/{key}", native.tobytes(), file.tell())
        _add(archive, "version", b"3\n", file.tell())


def _tensor(key: str, array: np.ndarray) -> PickledObject:
    kind = Global(KINDS[array.dtype.name])
    storage = PersistentId(("storage", kind, key, "cpu", array.size))
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    no_hooks = PickledObject(pickles.ORDERED_DICT.name, ())
    return PickledObject(TENSOR, (storage, 0, array.shape, strides, False, no_hooks))


def _add(archive: zipfile.ZipFile, name: str, data: bytes, position: int) -> None:
    member = zipfile.ZipInfo(f"archive/{name}")
    # PyTorch maps storages into memory where they lie: an extra field, like its own, aligns them.
    padding = -(position + _LOCAL_HEADER + len(member.filename) + 4) % _ALIGNMENT
    member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(member, data)
