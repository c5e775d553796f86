"""The clouds of furniture: a small catalogue, and what is wrong with others."""

import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from dwconv_jax.data.builders import furniture_points
from dwconv_jax.data.builders.furniture import CLASSES, classify, list_items, sample_points
from dwconv_jax.errors import UserError

# A box of 1 x 4 x 1, whose longer side is the second axis.
BOX = """
v 0 0 0\nv 1 0 0\nv 1 4 0\nv 0 4 0\nv 0 0 1\nv 1 0 1\nv 1 4 1\nv 0 4 1
f 1 2 3 4\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8
"""


def write_catalogue(folder, entries, name="a.sh3f", model=BOX):
    lines = ["id=Catalogue"]
    for i, fields in enumerate(entries):
        fields = {"id": f"Some#{i}", "model": f"/m{i}.obj", "category": "Office"} | fields
        lines += [f"{key}#{i + 1}={value}" for key, value in fields.items()]
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines).encode("latin-1"))
        for i in range(len(entries)):
            archive.writestr(f"m{i}.obj", model)


@pytest.mark.parametrize(
    ("category", "name", "label"),
    [
        ("Characters", "Sitting male", "person"),
        ("Characters", "Bulldog", None),
        ("Living room", "Winchester armchair", "sofa"),
        ("Office", "Class seat", "chair"),
        ("Bedroom", "Bedside table", "cabinet"),
        ("Bedroom", "Opened convertible sofa BZ", "sofa"),
        ("Exterior", "Plant box", None),
        ("Vehicles", "Fork lift", None),
        ("Doors and windows", "Elevator", None),
    ],
)
def test_classes(category, name, label):
    assert classify(category, name) == label


def test_a_catalogue_is_prepared(tmp_path):
    source, data_dir = tmp_path / "source", tmp_path / "tfds"
    source.mkdir()
    names = ["Desk", "Chair", "Box", "Oak table", "Cafe table", "Chaise é"]
    write_catalogue(source, [{"name": name} for name in names])
    folder = furniture_points.prepare(str(source), str(data_dir))
    assert folder == furniture_points.prepare("no longer needed", str(data_dir))
    builder = tfds.builder("furniture_points", data_dir=data_dir)
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert counts == {"train": 3, "test": 1}
    (example,) = tfds.as_numpy(builder.as_dataset("test"))
    assert CLASSES[example["label"]] == "table"
    radii = np.linalg.norm(example["points"], axis=1)
    assert example["points"].shape == (2048, 3) and radii.max() == pytest.approx(1)
    # Four of the six sides, and so 16 parts of 18 of the surface, are as long as the box.
    heights = example["points"][:, 1]
    assert np.mean(np.abs(heights) < 0.9 * heights.max()) == pytest.approx(0.8, abs=0.05)


def test_models_are_rotated(tmp_path):
    write_catalogue(tmp_path, [{"name": "Desk", "modelRotation": "0 1 0 1 0 0 0 0 1"}])
    (item,) = list_items(tmp_path)
    extent = np.ptp(sample_points(item, 100), axis=0)
    assert extent[0] > 3 * extent[1]


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install sweethome3d-furniture"):
        furniture_points.prepare(str(tmp_path), str(tmp_path / "tfds"))
    write_catalogue(tmp_path, [{"name": "Desk"}], model="v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3")
    (item,) = list_items(tmp_path)
    with pytest.raises(UserError, match=r"m0\.obj in .*a\.sh3f has no surface"):
        sample_points(item, 10)
    write_catalogue(tmp_path, [{"name": "Desk", "model": "/other.obj"}])
    (item,) = list_items(tmp_path)
    with pytest.raises(UserError, match=r"a\.sh3f lacks other\.obj, the model of Some#0"):
        sample_points(item, 10)
    (tmp_path / "b.sh3f").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"b\.sh3f is no furniture catalogue"):
        list_items(tmp_path)
