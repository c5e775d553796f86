import pytest

from tests.training import tiny


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def config(data_dir):
    config = tiny.get_config()
    config.dataset.data_dir = data_dir
    return config
