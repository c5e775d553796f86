"""Point clouds in HDF5 files and tfds: what arrives in a batch, and what is refused."""

import itertools

import h5py
import numpy as np
import pytest

from dwconv_jax import data
from dwconv_jax.errors import UserError
from dwconv_jax.training import base_config


def write(file, points, labels, data="data", label="label"):
    with h5py.File(file, "w") as content:
        content[data], content[label] = points, labels


@pytest.fixture
def points(rng):
    return rng.normal(size=(6, 20, 3)).astype(np.float32)


@pytest.fixture
def config(tmp_path, points):
    write(tmp_path / "train0.h5", points[:4], np.array([[0], [1], [2], [0]], np.uint8))
    write(tmp_path / "train1.h5", points[4:], np.array([1, 2]))
    write(tmp_path / "test.h5", points[:3], np.array([0, 1, 2]))
    (tmp_path / "shape_names.txt").write_text("ball\ncone\ncube\n")
    config = base_config("point_cloud").dataset
    config.update(
        name="h5", data_dir=str(tmp_path), train_split="train*.h5", eval_split="test.h5",
        cloud_size=20, num_points=10, unit_sphere=False,
    )  # fmt: skip
    return config


def test_batches(config, points):
    dataset = data.load_point_clouds(config)
    assert (dataset.class_names, dataset.num_train) == (("ball", "cone", "cube"), 6)
    first, second = dataset.eval_batches(2)
    assert second["mask"].tolist() == [1, 0] and not second["points"][1].any()
    assert first["label"].tolist() == [0, 1]
    np.testing.assert_array_equal(first["points"][1], points[1][:, [2, 0, 1]] * [-1, -1, 1])

    batch = next(dataset.train_batches(6, seed=0))
    assert sorted(batch["label"].tolist()) == [0, 0, 1, 1, 2, 2]
    # Shuffled points, and a resumed stream repeats them.
    assert batch["points"][:, 0].sum() != pytest.approx(batch["points"][:, 1].sum())
    for cloud in batch["points"]:
        assert any(
            np.allclose(np.sort(cloud, 0), np.sort(p[:, [2, 0, 1]] * [-1, -1, 1], 0))
            for p in points
        )
    second = next(itertools.islice(dataset.train_batches(6, seed=0), 1, None))
    resumed = next(dataset.train_batches(6, seed=0, start_step=1))
    np.testing.assert_array_equal(second["points"], resumed["points"])


@pytest.mark.parametrize("size", [1, 7, 40])
def test_clouds_of_other_sizes(config, points, size):
    config.update(cloud_size=size, num_points=1, unit_sphere=True)
    batch = next(data.load_point_clouds(config).eval_batches(3))
    assert batch["points"].shape == (3, size, 3) and np.isfinite(batch["points"]).all()
    assert len(np.unique(batch["points"][0], axis=0)) == min(size, 20)


def test_one_point_is_a_cloud(config, tmp_path):
    write(tmp_path / "test.h5", np.ones((1, 1, 3), np.float32), np.array([0]))
    config.unit_sphere = True
    batch = next(data.load_point_clouds(config).eval_batches(1))
    np.testing.assert_array_equal(batch["points"], np.zeros((1, 20, 3)))


def test_no_data_is_needed_to_describe(config):
    config.update(data_dir=None, class_names=("ball", "cone"), num_train=50)
    dataset = data.describe_point_clouds(config)
    assert (dataset.num_classes, dataset.num_train) == (2, 50)
    assert dataset.train_spec()["points"].shape == (20, 3)
    config.num_train = None
    with pytest.raises(UserError, match="num_train=None: files that are not opened"):
        data.describe_point_clouds(config)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (dict(label="labels"), r"test\.h5 must have the arrays 'data' and 'label'"),
        (dict(points=np.zeros((2, 5, 2), np.float32)), r"'data' must be floats .* \[2, 5, 2\]"),
        (dict(points=np.zeros((0, 5, 3), np.float32)), r"'data' must be floats .* \[0, 5, 3\]"),
        (dict(points=np.zeros((2, 5, 3), np.int32)), r"'data' must be floats .* int32"),
        (dict(labels=np.zeros(3, int)), r"'label' must be 2 integers, .* got int64 \[3\]"),
        (dict(labels=np.zeros(2)), r"'label' must be 2 integers, .* got float64"),
        (dict(labels=np.array([0, 3])), r"row 1 of 'label' is 3; legal are 0\.\.2"),
        (dict(points=np.full((2, 5, 3), np.nan)), r"row 0 of 'data' has coordinates that are not"),
    ],
)
def test_malformed_files_are_named(config, tmp_path, contents, message):
    fields = dict(points=np.zeros((2, 5, 3), np.float32), labels=np.zeros(2, int)) | contents
    write(tmp_path / "test.h5", **fields)
    with pytest.raises(UserError, match=message) as error:
        data.load_point_clouds(config)
    assert str(tmp_path / "test.h5") in str(error.value)


def test_other_mistakes_are_named(config, tmp_path, points):
    (tmp_path / "test.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"test\.h5 is no HDF5 file"):
        data.load_point_clouds(config)
    write(tmp_path / "train1.h5", points[:, :9], np.zeros(6, int))
    with pytest.raises(UserError, match=r"clouds of one size, .*train0\.h5 20, train1\.h5 9"):
        data.load_point_clouds(config)
    config.train_split = "none*.h5"
    with pytest.raises(FileNotFoundError, match=r"train_split='none\*\.h5': there is no such file"):
        data.load_point_clouds(config)
    (tmp_path / "shape_names.txt").write_text("ball\nball\n")
    with pytest.raises(UserError, match=r"shape_names\.txt must have a different name on every"):
        data.load_point_clouds(config)
    (tmp_path / "shape_names.txt").unlink()
    with pytest.raises(UserError, match=r"config\.dataset\.class_names=\(\): .* does not exist"):
        data.load_point_clouds(config)
    config.update(num_points=30)
    with pytest.raises(UserError, match="num_points=30 must be at most cloud_size, which is 20"):
        data.load_point_clouds(config)
    config.update(num_points=1, name="digits")
    with pytest.raises(UserError, match="name='digits' is no set of point clouds: it needs"):
        data.load_point_clouds(config)
