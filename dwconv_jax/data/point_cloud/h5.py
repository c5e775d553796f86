"""Point clouds in HDF5 files, as ModelNet40 and ScanObjectNN come: `data` and `label`."""

import pathlib

import numpy as np
import tensorflow as tf

from dwconv_jax.data.point_cloud.config import PointCloudConfig
from dwconv_jax.data.stream import Source, Split
from dwconv_jax.errors import UserError

_NAMES = "shape_names.txt"


def open_h5(config: PointCloudConfig, channels: int) -> Source:
    """Reads both splits into memory.

    Raises:
      UserError: a file is malformed, or `data_dir` or the classes are not given; the message names
        the file or the field.
      FileNotFoundError: there are no files of a split.
    """
    class_names = class_names_of(config)
    train, evaluation = (
        _open_split(config, field, len(class_names)) for field in ("train_split", "eval_split")
    )
    return Source(train, evaluation, class_names, channels)


def class_names_of(config: PointCloudConfig) -> tuple[str, ...]:
    """`config.class_names`, or else the lines of `shape_names.txt`.

    Raises:
      UserError: neither is there, or a line is empty or occurs twice.
    """
    if config.class_names:
        return tuple(config.class_names)
    file = _folder(config) / _NAMES
    if not file.is_file():
        raise UserError(
            f"config.dataset.class_names=(): {file} does not exist; give the names of the classes"
        )
    names = tuple(line.strip() for line in file.read_text().strip().splitlines())
    if not names or not all(names) or len(set(names)) < len(names):
        raise UserError(f"{file} must have a different name on every line, got {names}")
    return names


def _folder(config: PointCloudConfig) -> pathlib.Path:
    if config.data_dir is None:
        raise UserError(
            "config.dataset.data_dir=None: with dataset.name='h5' it must be the folder of the "
            "files"
        )
    return pathlib.Path(config.data_dir).expanduser()


def _open_split(config: PointCloudConfig, field: str, num_classes: int) -> Split:
    folder, pattern = _folder(config), getattr(config, field)
    files = sorted(folder.glob(pattern))
    if not files:
        raise FileNotFoundError(
            f"config.dataset.{field}={pattern!r}: there is no such file in {folder}"
        )
    clouds, labels = zip(*(read_h5(file, num_classes) for file in files), strict=True)
    if len({array.shape[1] for array in clouds}) > 1:
        sizes = ", ".join(f"{f.name} {a.shape[1]}" for f, a in zip(files, clouds, strict=True))
        raise UserError(f"files of one split must have clouds of one size, got points: {sizes}")
    points, names = np.concatenate(clouds), [
        (file.name, row) for file, array in zip(files, labels, strict=True)
        for row in range(len(array))
    ]  # fmt: skip
    on_device = tf.constant(points)
    examples = {"index": np.arange(len(points)), "label": np.concatenate(labels)}
    return Split(
        examples=tf.data.Dataset.from_tensor_slices(examples),
        num_examples=len(points),
        shuffle_buffer=len(points),  # labels are small
        read=lambda example: tf.gather(on_device, example["index"]),
        describe=lambda example: "{}, row {}".format(*names[int(example["index"])]),
    )


def read_h5(file: pathlib.Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads and checks a file.

    Args:
      file: has `data`, floats `[n, m, 3]`, and `label`, integers `[n]` or `[n, 1]`.
      num_classes: labels must be below it.

    Returns:
      Clouds, float32 `[n, m, 3]`, and labels, int64 `[n]`.

    Raises:
      UserError: names the file and what is wrong with it.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            "config.dataset.name='h5' needs h5py: pip install 'dwconv-jax[points]'"
        ) from error
    try:
        with h5py.File(file, "r") as content:
            data, label = (np.asarray(content[name]) for name in ("data", "label"))
    except OSError as error:
        raise UserError(f"{file} is no HDF5 file: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} must have the arrays 'data' and 'label'") from error
    if data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape or data.dtype.kind != "f":
        raise UserError(
            f"{file}: 'data' must be floats [clouds, points, 3], got {data.dtype} "
            f"{list(data.shape)}"
        )
    if label.shape not in ((len(data),), (len(data), 1)) or label.dtype.kind not in "iu":
        raise UserError(
            f"{file}: 'label' must be {len(data)} integers, one for each cloud, got {label.dtype} "
            f"{list(label.shape)}"
        )
    label = label.reshape(-1).astype(np.int64)
    if (rows := np.flatnonzero(~np.isfinite(data).all((1, 2)))).size:
        raise UserError(f"{file}: row {rows[0]} of 'data' has coordinates that are not finite")
    if (rows := np.flatnonzero((label < 0) | (label >= num_classes))).size:
        raise UserError(
            f"{file}: row {rows[0]} of 'label' is {label[rows[0]]}; legal are 0..{num_classes - 1}"
        )
    return data.astype(np.float32), label
