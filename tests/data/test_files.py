"""Folders of images: what is left out of them is said."""

import logging
import os
import pathlib

import pytest

from dwconv_jax.data.files import list_images
from dwconv_jax.errors import UserError


@pytest.fixture(autouse=True)
def propagate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("dwconv_jax"), "propagate", True)


def test_other_formats_and_folders_are_counted(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "b.PNG", "a.webp", "c.jpeg", ".hidden.png", "notes.txt", "d.heic":
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    assert list_images(str(tmp_path)) == ["a.webp", "b.PNG", "c.jpeg"]
    (record,) = caplog.records
    text = f"left 2 files of other formats and 1 folder out of {tmp_path} (image files end in .jpg"
    assert record.getMessage().startswith(text)


def test_a_folder_of_images_alone_needs_no_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / ".DS_Store").touch()
    assert list_images(str(tmp_path)) == ["a.png"]
    assert not caplog.records


def test_a_name_that_is_not_utf8_is_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.png").touch()
    try:
        pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    except OSError:
        pytest.skip("this file system allows no such names")
    with pytest.raises(UserError, match=r"has a file whose name is not UTF-8, b'caf\\xe9.png'"):
        list_images(str(tmp_path))
