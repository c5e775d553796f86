"""What a workdir says of its run."""

from etils import epath

from dwconv_jax.tasks.description import DataDescription
from dwconv_jax.training.description import (
    read_config,
    read_data_description,
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


def test_older_runs_have_no_description(tmp_path):
    assert read_data_description(epath.Path(tmp_path)) is None
