"""What a workdir says of its run."""

import pytest
from etils import epath

from dwconv_jax.errors import UserError
from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.training.description import (
    check_same_config,
    read_config,
    read_data_description,
    read_evaluation,
    write_description,
)


def test_what_is_written_is_read(config, tmp_path):
    workdir = epath.Path(tmp_path) / "run"
    for data in (
        DataDescription(("0", "1"), 1),
        DataDescription(("cat", "dog"), 3, category_ids=(3, 18)),
    ):
        write_description(workdir, config, data)
        assert read_data_description(workdir) == data
    assert read_config(workdir).to_dict() == config.to_dict()
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "data.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "\0\0", "null", "[]", '{"task": "clas"}', '{"dataset": 3}', '{"seed": -1}']
)
def test_a_damaged_config_is_named(config, tmp_path, content):
    workdir, path = epath.Path(tmp_path), tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{path} [^\n]*$"):
        read_config(workdir)
    with pytest.raises(UserError, match=f"^{path} |another config"):
        check_same_config(config, workdir)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"class_names": 3}'])
def test_a_damaged_description_is_named(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{path} [^\n]*$"):
        read_data_description(epath.Path(tmp_path))


def test_older_runs_have_no_description(tmp_path):
    assert read_data_description(epath.Path(tmp_path)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"step": 3}', '{"step": 3, "accuracy": 0.5}'])
def test_a_damaged_evaluation_is_named(tmp_path, content):
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{path} [^\n]*$") as info:
        read_evaluation(epath.Path(tmp_path), step=3)
    assert "__init__" not in str(info.value)
