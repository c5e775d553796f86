"""Every Python block of the documentation runs; the site builds without a warning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
sybil = pytest.importorskip("sybil")


def python_blocks(page):
    from sybil.parsers.markdown import PythonCodeBlockParser

    return sybil.Sybil(parsers=[PythonCodeBlockParser()]).parse(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_python_blocks_run(page):
    # Blocks of a page share their names, as a reader would run them.
    for example in python_blocks(page):
        example.evaluate()


def test_there_are_blocks_to_run():
    assert sum(len(list(python_blocks(page))) for page in PAGES) > 15


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings")
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", tmp_path)
    zensical = shutil.which("zensical", path=Path(sys.executable).parent)
    built = subprocess.run(
        [zensical, "build", "--strict"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    page = (tmp_path / "site" / "reference" / "ops" / "index.html").read_text()
    assert "The channel-wise locally connected operator" in page
