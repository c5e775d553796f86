"""A wheel, installed into an empty environment, works outside of the checkout."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
SOURCES = (
    "LICENSE", "MANIFEST.in", "README.md", "configs", "dwconv_jax", "pyproject.toml", "setup.py",
)  # fmt: skip


def find_python(version):
    """A Python of a version on the PATH or beside this one, where version managers put them."""
    name = f"python{version}"
    beside = sorted(Path(sys.base_prefix).parent.glob(f"*{version}*/bin/{name}"))
    for python in (*beside, *filter(None, [shutil.which(name)])):
        works = subprocess.run([python, "-m", "venv", "--help"], capture_output=True)
        if works.returncode == 0:
            return python
    return pytest.skip(f"no {name} was found")


def run(*command, cwd):
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def make_environment(python, path, *packages):
    run(python, "-m", "venv", path, cwd=path.parent)
    run(path / "bin" / "python", "-m", "pip", "install", "--quiet", *packages, cwd=path.parent)
    return path / "bin"


def build_wheel(python, folder):
    """Builds from a copy, since files of earlier builds in the checkout end in wheels, too."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path, copy = REPOSITORY / name, source / name
        if path.is_dir():
            shutil.copytree(
                path, copy, symlinks=True, ignore=shutil.ignore_patterns("*.so", "__pycache__")
            )
        else:
            shutil.copy(path, copy)
    builder = make_environment(python, folder / "builder", "build")
    run(builder / "python", "-m", "build", "--wheel", "--outdir", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def documented_commands():
    page = (REPOSITORY / "docs" / "guides" / "install.md").read_text()
    (commands,) = re.findall(r"These work in any folder:\n\n```sh\n(.*?)```", page, re.DOTALL)
    return commands


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_an_installed_wheel_runs_the_commands_of_the_documentation(version, tmp_path, monkeypatch):
    python = find_python(version)
    wheel = build_wheel(python, tmp_path)
    programs = make_environment(python, tmp_path / "venv", f"{wheel}[train]")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "anywhere"
    (folder / "pictures").mkdir(parents=True)
    for i in range(3):
        Image.new("L", (8, 8), 80 * i).save(folder / "pictures" / f"{i}.png")
    log = run("bash", "-ec", documented_commands(), cwd=folder)
    accuracy = re.search(r"done: 880 steps in .* accuracy ([\d.]+) ", log)[1]
    assert float(accuracy) > 0.95
    assert "kernel is not built" not in log
    assert "wrote digits.jaxexport" in log.replace(f"{folder}/", "")
    with (folder / "predictions" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert (folder / "runs" / "digits" / "report.html").exists()
