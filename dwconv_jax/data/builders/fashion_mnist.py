"""Prepares the tfds data set `fashion_mnist` without a network, from a Debian package.

    apt-get install dataset-fashion-mnist
    python -m dwconv_jax.data.builders.fashion_mnist

Debian's files are those that tfds would download, except that their gzip headers lack the name and
the time of the original file. With both restored they pass tfds's checksums.
"""

import argparse
import pathlib
import tempfile

import tensorflow_datasets as tfds

from dwconv_jax.errors import UserError

SOURCE = "/usr/share/datasets/fashion-mnist"

# When upstream compressed each file, in seconds since 1970.
TIMES = {
    "train-images-idx3-ubyte": 1504176606,
    "train-labels-idx1-ubyte": 1504176606,
    "t10k-images-idx3-ubyte": 1504176627,
    "t10k-labels-idx1-ubyte": 1504176627,
}
_HEADER_SIZE = 10
_HAS_NAME = 0x08


def restore_header(data: bytes, name: str, time: int) -> bytes:
    """Writes the original file's name and time into the header of a gzip file.

    Args:
      data: a gzip file whose header has no optional fields. If it has the name already, it is
        returned unchanged.
      name: name of the original file, without ".gz".
      time: of the original file, in seconds since 1970.

    Raises:
      UserError: `data` is not such a file.
    """
    flags = data[3] if data[:3] == b"\x1f\x8b\x08" and len(data) > _HEADER_SIZE else None
    if flags == _HAS_NAME:
        return data
    if flags != 0:
        raise UserError(f"{name}.gz is not a gzip file with a bare header: {data[:4].hex()}")
    rest = data[8:_HEADER_SIZE] + name.encode() + b"\0" + data[_HEADER_SIZE:]
    return data[:3] + bytes([_HAS_NAME]) + time.to_bytes(4, "little") + rest


def prepare(source: str = SOURCE, data_dir: str | None = None) -> str:
    """Prepares `fashion_mnist` from the files in `source`, unless it is prepared already.

    Args:
      source: folder with the four `*-ubyte.gz` files.
      data_dir: where tfds keeps its data sets; None is tfds's default.

    Returns:
      The folder of the prepared data set.

    Raises:
      FileNotFoundError: `source` or a file in it is missing.
      UserError: a file is not gzip.
    """
    builder = tfds.builder("fashion_mnist", data_dir=data_dir)
    if builder.is_prepared():
        return builder.data_dir
    files = {name: pathlib.Path(source, f"{name}.gz") for name in TIMES}
    if missing := [str(file) for file in files.values() if not file.is_file()]:
        raise FileNotFoundError(
            f"missing {', '.join(missing)}; Debian's package has them: "
            f"`apt-get install dataset-fashion-mnist` puts them into {SOURCE}"
        )
    with tempfile.TemporaryDirectory() as manual_dir:
        for name, file in files.items():
            data = restore_header(file.read_bytes(), name, TIMES[name])
            pathlib.Path(manual_dir, file.name).write_bytes(data)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=manual_dir, try_download_gcs=False
            )
        )
    return builder.data_dir


def main() -> None:
    """Prepares the data set and prints its folder."""
    parser = argparse.ArgumentParser(description="Prepares fashion_mnist without a network.")
    parser.add_argument("--source", default=SOURCE, help="folder with the four .gz files")
    parser.add_argument("--data_dir", help="where tfds keeps its data sets (default: its own)")
    args = parser.parse_args()
    print("fashion_mnist is prepared in", prepare(args.source, args.data_dir))


if __name__ == "__main__":
    main()
