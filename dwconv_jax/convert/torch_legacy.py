"""The format that PyTorch wrote before 1.6: pickles, and behind them the storages.

magic number, version, system    a pickle each
checkpoint                       a pickle, its tensors as references to storages
keys                             a pickle, the storages in their order
each storage                     the number of its elements, int64, then their bytes
"""

import io
from pathlib import Path
from typing import Literal

import numpy as np

from dwconv_jax.convert import pickles
from dwconv_jax.convert.pickles import Global, PersistentId
from dwconv_jax.convert.state_dicts import find_state_dict
from dwconv_jax.convert.torch_tensors import PERMITTED, STORAGES, is_tensor, to_array
from dwconv_jax.errors import UserError

# The long integer that opens every file.
MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the state dict in a file that PyTorch wrote before 1.6.

    Args:
      path: the file.

    Returns:
      The tensors by name, as read-only views of the storages in the file.

    Raises:
      ValueError: the file is damaged, not a checkpoint, or asks for more than tensors.
    """
    file = io.BytesIO(path.read_bytes())
    _, _, system = (pickles.loads(file, ()) for _ in range(3))
    little = isinstance(system, dict) and system.get("little_endian", True)
    references: list[PersistentId] = []
    checkpoint = pickles.loads(file, PERMITTED, references)
    archive = _Archive(file, pickles.loads(file, ()), _kinds(references), "<" if little else ">")
    tensors = find_state_dict(checkpoint, is_tensor)
    return {name: to_array(name, tensor, archive) for name, tensor in tensors.items()}


def _kinds(references: list[PersistentId]) -> dict[str, np.dtype]:
    """The dtypes of the storages that a pickle refers to."""
    kinds = {}
    for reference in references:
        match reference.id:
            case ("storage", Global(kind), str(key), _, int(), None) if kind in STORAGES:
                kinds[key] = STORAGES[kind]
            case _:
                raise UserError(f"refers to a storage of another kind: legal are {list(STORAGES)}")
    return kinds


class _Archive:
    """The storages of a checkpoint, in the memory of its file."""

    def __init__(
        self,
        file: io.BytesIO,
        keys: object,
        kinds: dict[str, np.dtype],
        byteorder: Literal["<", ">"],
    ) -> None:
        self.storages = {}
        data, position = file.getbuffer().toreadonly(), file.tell()
        for key in keys if isinstance(keys, list) else ():
            if not isinstance(key, str) or key not in kinds:
                raise UserError(f"has a storage {key!r}, to which no tensor refers")
            header = np.dtype(f"{byteorder}i8")
            dtype = kinds[key].newbyteorder(byteorder)
            length = int(_elements(data, header, 1, position)[0])
            values = _elements(data, dtype, length, position + 8)
            position += 8 + values.nbytes
            self.storages[key] = values if dtype.isnative else values.astype(kinds[key])

    def storage(self, key: str, dtype: np.dtype, length: int) -> np.ndarray:
        """The elements of a storage."""
        values = self.storages.get(key)
        if values is None or len(values) != length or values.dtype != dtype:
            raise UserError(f"has no storage {key} of {length} x {dtype}")
        return values


def _elements(data: memoryview, dtype: np.dtype, length: int, position: int) -> np.ndarray:
    if not 0 <= length * dtype.itemsize <= len(data) - position:
        raise UserError("is truncated, or damaged: a storage reaches beyond its end")
    return np.frombuffer(data, dtype, length, position)
