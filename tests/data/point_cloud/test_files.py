"""One cloud from an array or a file, prepared as in evaluation; and what is no cloud."""

import io
import pathlib

import numpy as np
import pytest

from dwconv_jax.data.point_cloud.config import PointCloudConfig
from dwconv_jax.data.point_cloud.files import read_cloud
from dwconv_jax.data.point_cloud.preprocess import cloud
from dwconv_jax.errors import UserError
from dwconv_jax.models.point_prompt import CloudPreprocessing

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3"


@pytest.mark.parametrize("unit_sphere", [True, False])
@pytest.mark.parametrize("count", [2, 7, 20, 33])
def test_preprocessing_is_that_of_evaluation(rng, count, unit_sphere):
    points = rng.normal(2, size=(count, 3)).astype(np.float32)
    fields = dict(cloud_size=20, num_points=5, unit_sphere=unit_sphere)
    expected = cloud(points, PointCloudConfig(**fields))
    np.testing.assert_allclose(CloudPreprocessing(**fields)(points), expected, atol=1e-6)


def test_points_in_one_place_have_no_radius():
    prepared = CloudPreprocessing(cloud_size=4)(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(prepared, np.zeros((4, 3)))


def test_arrays_and_files(rng, tmp_path):
    points = rng.integers(9, size=(5, 3))
    np.save(tmp_path / "a.npy", points)
    (tmp_path / "b.OBJ").write_text(TRIANGLE)
    for source in (points.tolist(), tmp_path / "a.npy", str(tmp_path / "a.npy")):
        read = read_cloud(source, 9)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, points)
    read = read_cloud(tmp_path / "b.OBJ", 9)
    assert read.shape == (9, 3) and (read[:, 0] + read[:, 1] / 2 <= 1 + 1e-6).all()
    np.testing.assert_array_equal(read, read_cloud(tmp_path / "b.OBJ", 9))


def test_remote_files_are_read_by_their_own_path_objects():
    class Bucket(pathlib.PurePosixPath):
        def __fspath__(self):
            return f"gs://{self}"

        def read_bytes(self):
            np.save(file := io.BytesIO(), np.eye(3))
            return file.getvalue()

    np.testing.assert_array_equal(read_cloud(Bucket("b/a.npy"), 9), np.eye(3))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[0, 0, 0], [0, 0]], r"a cloud must be numbers \[n, 3\]: .* inhomogeneous"),
        (np.zeros((1, 3)), "a cloud must have at least 2 points, got 1"),
        (np.zeros(3), r"a cloud must be numbers \[n, 3\], got float64 \[3\]"),
        (np.zeros((3, 5)), r"a cloud must be numbers \[n, 3\], got float64 \[3, 5\]"),
        (np.full((2, 3), "a"), r"a cloud must be numbers \[n, 3\], got <U1 \[2, 3\]"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), r"finite in float32, got \[ 0\. nan  0\.\] at 1"),
        (np.full((2, 3), 1e99), "a cloud must be finite in float32, got .* at 0"),
    ],
)
def test_what_is_no_cloud_is_refused(points, message):
    with pytest.raises(UserError, match=message):
        read_cloud(points, 9)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"nothing", r"cannot read .*a\.npy as an array"),
        ("a.npy", b"", r"cannot read .*a\.npy as an array"),
        ("a.npy", b"PK\3\4", r"cannot read .*a\.npy as an array: File is not a zip file"),
        ("a.obj", b"nothing", r"a\.obj (has no surface|as a mesh)"),
        ("a.obj", b"v 0 0 0\nf 7 8 9", r"a\.obj (has no surface|as a mesh)"),
        ("a.png", b"", r"a\.png is no cloud; legal file names end in \.npy and \.obj"),
    ],
)
def test_files_that_hold_no_cloud_are_named(tmp_path, name, content, message):
    with pytest.raises(UserError, match=rf"cannot read .*{name}: No such file|is no cloud"):
        read_cloud(tmp_path / name, 9)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_cloud(tmp_path / name, 9)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(UserError, match=r"cannot read .*a\.npy as an array"):
        read_cloud(tmp_path / "a.npy", 9)
