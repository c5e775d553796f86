"""State dicts in the files that PyTorch programs exchange, read and written without PyTorch."""

import os
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from dwconv_jax.convert import torch_legacy, torch_tensors, torch_zip
from dwconv_jax.convert.state_dicts import find_state_dict
from dwconv_jax.errors import MissingPackageError, UserError

_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
SUFFIXES = (*_TORCH_SUFFIXES, ".safetensors")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the state dict in a PyTorch checkpoint, without running anything that the file says.

    A name that ends in `.safetensors` is read as such, any other as what `torch.save` writes. The
    state dict may be the whole checkpoint or lie under 'model' or 'state_dict', next to things that
    are not read. The prefix `module.` of `DataParallel` goes where every name has it.

    Args:
      path: the file.

    Returns:
      The tensors by name, in the shapes and dtypes of the file (bfloat16 is
      `ml_dtypes.bfloat16`). They may be read-only and share memory: copy before writing to one.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, is no checkpoint, holds something other than tensors in the
        state dict, or asks for code to be run; the message names the file.
      MissingPackageError: the file ends in `.safetensors`, and that package is not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a directory: legal is a file of torch.save or safetensors")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        return _reader(path)(path)
    except MissingPackageError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def write_state_dict(path: str | os.PathLike[str], state_dict: dict[str, np.ndarray]) -> None:
    """Writes a state dict that PyTorch programs can read.

    The file appears whole or not at all: an existing one stays as it is until the new one is
    complete.

    Args:
      path: the file; `.safetensors` selects that format, and `.pth`, `.pt` or `.bin` the one of
        `torch.save`, which `torch.load(path, weights_only=True)` reads.
      state_dict: arrays of any shape by name, of dtype bool, int8 to int64, uint8, float16,
        bfloat16 (`ml_dtypes`), float32 or float64.

    Raises:
      ValueError: the suffix or the dtype of an array is not one of these.
      TypeError: a name is not a string or a value not a NumPy array.
      OSError: the file cannot be written, for example on a full disk.
      MissingPackageError: the safetensors package is not installed, and the suffix asks for it.
    """
    path = Path(path)
    write = _writer(path)
    for name, array in state_dict.items():
        _check_entry(path, name, array)
    try:
        with _replacing(path) as temporary:
            write(temporary, state_dict)
    except OSError as error:  # such as a full disk, of which the system does not name the file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _reader(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    if path.suffix == ".safetensors":
        return _read_safetensors
    if zipfile.is_zipfile(path):
        return torch_zip.read
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise UserError("is empty")
    if head.startswith(b"PK"):
        raise UserError("is a truncated zip file")
    if torch_legacy.MAGIC in head:
        return torch_legacy.read
    raise UserError("was written neither by torch.save nor by safetensors")


def _writer(path: Path) -> Callable[[Path, dict[str, np.ndarray]], None]:
    if path.suffix == ".safetensors":
        return _write_safetensors
    if path.suffix in _TORCH_SUFFIXES:
        return torch_zip.write
    raise UserError(f"{path}: suffix {path.suffix!r} names no format: legal are {SUFFIXES}")


def _check_entry(path: Path, name: str, array: np.ndarray) -> None:
    if not isinstance(name, str) or not isinstance(array, np.ndarray):
        raise TypeError(
            f"{path}: entry {name!r} has type {type(array).__name__}: "
            "legal are strings as names and NumPy arrays as values"
        )
    if array.dtype.name not in torch_tensors.DTYPES:
        raise UserError(
            f"{path}: entry {name!r} has dtype {array.dtype}: legal are {torch_tensors.DTYPES}"
        )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    library = _safetensors()
    try:
        tensors = library.numpy.load_file(path)
    except (library.SafetensorError, AttributeError) as error:  # NumPy has no float8.
        raise UserError(f"is not a safetensors file that can be read ({error})") from error
    return find_state_dict(tensors, lambda value: isinstance(value, np.ndarray))


def _write_safetensors(path: Path, state_dict: dict[str, np.ndarray]) -> None:
    # The library writes the memory of an array in the order in which it lies there, and its
    # save_file makes files that only their owner can read.
    arrays = {name: np.asarray(array, order="C") for name, array in state_dict.items()}
    # Readers of the transformers family look for this mark.
    path.write_bytes(_safetensors().numpy.save(arrays, {"format": "pt"}))


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingPackageError(
            "install safetensors to read or write .safetensors files"
        ) from error
    return safetensors


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
