"""Every Python block of the documentation runs."""

from pathlib import Path

import pytest
import sybil
from sybil.parsers.markdown import PythonCodeBlockParser

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def python_blocks(page):
    return sybil.Sybil(parsers=[PythonCodeBlockParser()]).parse(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_python_blocks_run(page):
    # Blocks of a page share their names, as a reader would run them.
    for example in python_blocks(page):
        example.evaluate()


def test_there_are_blocks_to_run():
    assert sum(len(list(python_blocks(page))) for page in PAGES) > 15
