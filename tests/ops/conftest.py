import pytest


@pytest.fixture(autouse=True, scope="module")
def operators_are_optimized(optimized):
    pass
