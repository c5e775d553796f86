"""Every Python block of the documentation runs, and every local link and figure is current."""

import re
import runpy
from pathlib import Path

import pytest
import sybil
from sybil.parsers.markdown import PythonCodeBlockParser

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
# Sphinx checks the links of docs/.
EXTRAS = ["onnx.md"]  # pages whose blocks need packages that `make test-extras` installs
OUTSIDE_SPHINX = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md"]


def python_blocks(page):
    return sybil.Sybil(parsers=[PythonCodeBlockParser()]).parse(page)


def marked(page):
    marks = [pytest.mark.extras] if page.name in EXTRAS else []
    return pytest.param(page, id=str(page.relative_to(REPOSITORY)), marks=marks)


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_python_blocks_run(page):
    # Blocks of a page share their names, as a reader would run them.
    for example in python_blocks(page):
        example.evaluate()


def test_there_are_blocks_to_run():
    assert sum(len(list(python_blocks(page))) for page in PAGES) > 15


@pytest.mark.parametrize("page", OUTSIDE_SPHINX)
def test_local_links_lead_somewhere(page):
    path = REPOSITORY / page
    targets = re.findall(r"\]\(([^)#]+)", path.read_text())
    missing = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["three_choices", "family"])
def test_a_figure_is_what_its_script_draws(name, tmp_path, monkeypatch):
    script = REPOSITORY / "docs" / "figures" / f"{name}.py"
    monkeypatch.syspath_prepend(script.parent)
    copy = tmp_path / script.name
    copy.write_text(script.read_text())
    runpy.run_path(str(copy), run_name="__main__")
    assert copy.with_suffix(".svg").read_text() == script.with_suffix(".svg").read_text()


def test_the_readme_stays_short():
    assert len((REPOSITORY / "README.md").read_text().split()) <= 900
