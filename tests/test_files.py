"""Paths that users type, and files that appear whole or not at all."""

import os

import pytest
from etils import epath

from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path, write_atomically


def test_a_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert str(absolute_path("~/x", "--workdir")) == f"{tmp_path}/x"
    assert str(absolute_path("x", "--workdir")) == f"{tmp_path}/x"
    with pytest.raises(UserError, match="--workdir is empty"):
        absolute_path("", "--workdir")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = epath.Path(tmp_path) / "a.json"
    write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.json'"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [tmp_path / "a.json"]
