"""One point cloud, from an array or a file."""

import io
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from dwconv_jax.errors import MissingPackageError, UserError

SUFFIXES = (".npy", ".obj")


def read_cloud(cloud: Any, count: int) -> np.ndarray:
    """Reads and checks a cloud.

    Args:
      cloud: numbers `[n, 3]`, n at least 2, whose second axis points up; or the path of a `.npy`
        file that holds them, or of an `.obj` file, a mesh. A path object that can read its bytes
        may be remote.
      count: random points to take from the surface of a mesh.

    Returns:
      float32 `[n, 3]`.

    Raises:
      UserError: the file cannot be read, or what it holds is no cloud.
      MissingPackageError: a mesh needs trimesh, which is not installed.
    """
    name = "a cloud"
    if isinstance(cloud, str | os.PathLike):
        # `pathlib` would break the address of a remote file.
        path: Any = cloud if hasattr(cloud, "read_bytes") else pathlib.Path(cloud)
        name, cloud = os.fspath(cloud), _read(path, count)
    try:
        points = np.asarray(cloud)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{name} must be numbers [n, 3]: {error}") from error
    if points.dtype.kind not in "fiu" or points.ndim != 2 or points.shape[1] != 3:
        raise UserError(f"{name} must be numbers [n, 3], got {points.dtype} {list(points.shape)}")
    if len(points) < 2:
        raise UserError(f"{name} must have at least 2 points, got {len(points)}")
    with np.errstate(over="ignore"):
        points = points.astype(np.float32)
    if (rows := np.flatnonzero(~np.isfinite(points).all(1))).size:
        raise UserError(f"{name} must be finite in float32, got {points[rows[0]]} at {rows[0]}")
    return points


def _read(path: pathlib.Path, count: int) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is no cloud; legal file names end in {' and '.join(SUFFIXES)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if suffix == ".obj":
        return sample_mesh(content, os.fspath(path), count, seed=0)
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path} as an array: {error}") from error


def sample_mesh(content: bytes, name: str, count: int, seed: int) -> np.ndarray:
    """Random points on the surface of a mesh, every area alike.

    Args:
      content: of an OBJ file.
      name: of the file, for errors.
      count: how many points.
      seed: the same one gives the same points.

    Returns:
      float64 `[count, 3]`.

    Raises:
      UserError: the file holds no surface.
      MissingPackageError: trimesh is not installed.
    """
    try:
        import trimesh
    except ImportError as error:
        raise MissingPackageError(
            "reading meshes takes pip install 'dwconv-jax[points]'"
        ) from error
    try:
        mesh = trimesh.load_mesh(io.BytesIO(content), file_type="obj", skip_materials=True)
        has_surface = mesh.area > 0
    except (AttributeError, IndexError, ValueError) as error:
        raise UserError(f"cannot read {name} as a mesh: {error}") from error
    if not has_surface:
        raise UserError(f"{name} has no surface")
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return np.asarray(points)
