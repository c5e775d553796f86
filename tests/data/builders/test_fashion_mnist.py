import gzip
import hashlib
import pathlib

import pytest
import tensorflow_datasets as tfds

from dwconv_jax.data.builders import fashion_mnist


def test_restored_header_is_the_one_gzip_writes(tmp_path: pathlib.Path) -> None:
    content = bytes(range(256)) * 9
    for name, time in ("", 1), ("original-ubyte", 1504176606):
        with (
            open(tmp_path / f"{name}.gz", "wb") as file,
            gzip.GzipFile(name, "wb", fileobj=file, mtime=time) as writer,
        ):
            writer.write(content)
    bare = (tmp_path / ".gz").read_bytes()
    complete = (tmp_path / "original-ubyte.gz").read_bytes()
    assert bare != complete
    assert fashion_mnist.restore_header(bare, "original-ubyte", 1504176606) == complete
    assert fashion_mnist.restore_header(complete, "original-ubyte", 1504176606) == complete


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b\x08", b"not a gzip file at all", b"PK" * 20])
def test_what_is_not_gzip_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"original\.gz is not a gzip file"):
        fashion_mnist.restore_header(data, "original", 0)


def test_missing_files_name_the_debian_package(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").touch()
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist") as error:
        fashion_mnist.prepare(str(tmp_path), str(tmp_path / "tfds"))
    assert "t10k-labels-idx1-ubyte.gz" in str(error.value)
    assert "train-images" not in str(error.value)


@pytest.mark.skipif(
    not pathlib.Path(fashion_mnist.SOURCE).is_dir(),
    reason="needs Debian's package dataset-fashion-mnist",
)
def test_debians_files_pass_the_checksums_of_tfds() -> None:
    legal = {info.checksum for info in tfds.builder_cls("fashion_mnist").url_infos.values()}
    found = set()
    for name, time in fashion_mnist.TIMES.items():
        data = pathlib.Path(fashion_mnist.SOURCE, f"{name}.gz").read_bytes()
        data = fashion_mnist.restore_header(data, name, time)
        found.add(hashlib.sha256(data).hexdigest())
    assert found == legal
