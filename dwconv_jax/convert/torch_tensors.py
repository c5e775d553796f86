"""What the tensors of a PyTorch checkpoint are in its pickle: views of storages outside of it."""

from typing import Protocol

import ml_dtypes
import numpy as np

from dwconv_jax.convert import pickles
from dwconv_jax.convert.pickles import Global, PersistentId, PickledObject
from dwconv_jax.errors import UserError

STORAGES = {
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
KINDS = {dtype.name: kind for kind, dtype in STORAGES.items()}
DTYPES = tuple(KINDS)
TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
# What training programs save next to the model. Nothing is ever called, so these cost no trust.
_BYSTANDERS = {
    "argparse.Namespace",
    "yacs.config.CfgNode",
    "__builtin__.set",
    "builtins.set",
    "collections.Counter",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
    "torch.Size",
    "torch.device",
    "torch.float16",
    "torch.bfloat16",
    "torch.float32",
    "torch.float64",
}
PERMITTED = _BYSTANDERS | {pickles.ORDERED_DICT.name, TENSOR, _PARAMETER, *STORAGES}
# Expanded tensors (stride 0) are legal, and a billion elements made from one of them an attack.
_MAX_EXPANDED = 2**20


class Archive(Protocol):
    """What holds the storages of a checkpoint."""

    def storage(self, key: str, dtype: np.dtype, length: int) -> np.ndarray:
        """The `length` elements of a storage; ValueError if it is not there or has others."""
        ...


def is_tensor(value: object) -> bool:
    """Whether a pickled object is a tensor."""
    return isinstance(value, PickledObject) and value.function in (TENSOR, _PARAMETER)


def to_array(name: str, tensor: object, archive: Archive) -> np.ndarray:
    """The tensor `name` as a view of its storage.

    Raises:
      ValueError: it is none, or reaches outside its storage.
    """
    match tensor:
        case PickledObject(function, (inner, *_)) if function == _PARAMETER:
            tensor = inner
    match tensor:
        case PickledObject(
            function,
            (
                # Before 1.6 with a sixth entry, None since 0.4.
                PersistentId(("storage", Global(kind), str(key), _, int(length), *_)),
                int(offset),
                tuple(shape),
                tuple(strides),
                *_,
            ),
        ) if function == TENSOR and kind in STORAGES:
            return _view(name, archive.storage(key, STORAGES[kind], length), offset, shape, strides)
    raise UserError(f"tensor {name!r} is not a view of a storage: legal are {list(STORAGES)}")


def _view(
    name: str, storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    itemsize = storage.itemsize
    try:
        # Unlike as_strided, the constructor refuses what reaches outside the buffer.
        view = np.ndarray(
            shape, storage.dtype, storage, offset * itemsize, [step * itemsize for step in strides]
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"tensor {name!r} reaches outside its storage: {error}") from error
    if view.size > max(storage.size, _MAX_EXPANDED):
        raise UserError(
            f"tensor {name!r} makes {view.size} elements out of the {storage.size} in its storage"
        )
    return view
